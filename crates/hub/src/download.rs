//! Brings a file of a model into the cache, whole or not at all.
//!
//! Bytes are written to `blobs/ETAG.compress.incomplete`. Only when all are there, and their SHA-256 is the one that
//! the hub named, is the file renamed and linked. What was interrupted stays, and the next try continues it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::Repository;
use crate::client::{Bytes, Client, Remote};
use crate::{Error, Progress};

const BUFFER: usize = 256 << 10;
const PAUSE: Duration = Duration::from_secs(1);
const MOST_TRIES: usize = 20;

/// Downloads files of one commit.
pub struct Download<'a> {
    client: &'a Client<'a>,
    repository: &'a Repository,
    commit: &'a str,
    progress: &'a dyn Progress,
}

impl<'a> Download<'a> {
    /// From `client` into `repository`.
    pub fn new(
        client: &'a Client,
        repository: &'a Repository,
        commit: &'a str,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            client,
            repository,
            commit,
            progress,
        }
    }

    /// The directory that the files are linked in.
    pub fn snapshot(&self) -> PathBuf {
        self.repository.snapshot(self.commit)
    }

    /// The path of a file, which is downloaded if it is not there.
    pub fn file(&self, name: &str) -> Result<PathBuf, Error> {
        let link = self.snapshot().join(name);
        if link.is_file() {
            return Ok(link);
        }
        let remote = self.client.describe(self.commit, name)?;
        let blob = self.repository.blob(&remote.etag);
        let _lock = self.repository.lock(&remote.etag)?;
        if !blob.is_file() {
            let partial = blob.with_file_name(format!("{}.compress.incomplete", remote.etag));
            self.fill(name, &remote, &partial)?;
            verify(name, &remote, &partial)?;
            fs::rename(&partial, &blob).map_err(Error::io(blob))?;
        }
        self.repository.link(self.commit, name, &remote.etag)?;
        Ok(link)
    }

    /// Tries again while every try brings something.
    fn fill(&self, name: &str, remote: &Remote, partial: &Path) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let before = length(partial);
            match self.continue_with(name, remote, partial) {
                Err(Error::Interrupted { .. })
                    if length(partial) > before && tries < MOST_TRIES =>
                {
                    thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    fn continue_with(&self, name: &str, remote: &Remote, partial: &Path) -> Result<(), Error> {
        let mut done = length(partial);
        if done == remote.size && partial.is_file() {
            return Ok(());
        }
        if done > remote.size {
            done = 0;
        }
        let Bytes { reader, resumed } = self.client.open(self.commit, name, done)?;
        let mut options = OpenOptions::new();
        if resumed {
            options.append(true);
        } else {
            done = 0;
            options.write(true).create(true).truncate(true);
        }
        let file = options.open(partial).map_err(Error::io(partial))?;
        self.copy(
            name,
            reader,
            Target {
                file,
                path: partial,
                done,
                size: remote.size,
            },
        )
    }

    fn copy(&self, name: &str, reader: impl Read, mut target: Target) -> Result<(), Error> {
        let interrupted = |reason: String| Error::Interrupted {
            file: name.to_owned(),
            reason,
        };
        // One byte more than announced is enough to see that it is another file.
        let mut reader = reader.take(target.size - target.done + 1);
        let mut buffer = vec![0; BUFFER];
        self.progress.advance(name, target.done, target.size);
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|e| interrupted(e.to_string()))?;
            if count == 0 {
                break;
            }
            target
                .file
                .write_all(&buffer[..count])
                .map_err(Error::io(target.path))?;
            target.done += count as u64;
            self.progress.advance(name, target.done, target.size);
        }
        if target.done < target.size {
            return Err(interrupted(format!(
                "{} of {} bytes arrived",
                target.done, target.size
            )));
        }
        target.file.sync_all().map_err(Error::io(target.path))
    }
}

struct Target<'a> {
    file: File,
    path: &'a Path,
    done: u64,
    size: u64,
}

/// Deletes the file if it is not the one that was announced.
fn verify(name: &str, remote: &Remote, partial: &Path) -> Result<(), Error> {
    let size = length(partial);
    let differs = match announced(&remote.etag) {
        Some(digest) => digest != sha256(partial)?,
        None => false,
    };
    let problem = if size != remote.size {
        format!("it has {size} bytes and not {}", remote.size)
    } else if differs {
        format!("its SHA-256 is not {}", remote.etag)
    } else {
        return Ok(());
    };
    fs::remove_file(partial).map_err(Error::io(partial))?;
    Err(Error::Damaged {
        file: name.to_owned(),
        problem,
    })
}

/// The SHA-256 that an `ETag` is, for files in the large files' store.
fn announced(etag: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(etag.get(at..at + 2)?, 16).ok();
    (etag.len() == 64).then(|| (0..64).step_by(2).map(byte).collect())?
}

fn sha256(path: &Path) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(Error::io(path))? {
            0 => return Ok(hash.finalize().to_vec()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
