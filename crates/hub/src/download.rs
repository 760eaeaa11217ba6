//! Downloads a file of a model into the cache: complete and verified, or not at all.
//!
//! Bytes go to `blobs/ETAG.compress.incomplete`. When all have arrived and the SHA-256 is the
//! announced one, the file is synced, renamed and linked. An interrupted download leaves its part,
//! which the next one continues.
//!
//! Large files have their SHA-256 as `ETag` and are hashed, at the cost of reading them once more;
//! small ones have a git hash and only their size is checked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::Repository;
use crate::client::{Bytes, Client, Remote};
use crate::{Error, Progress};

/// Bytes read and written at a time.
const BUFFER: usize = 256 << 10;
/// The pause before a retry.
const PAUSE: Duration = Duration::from_secs(1);
/// Attempts at one file within a call.
const MOST_TRIES: usize = 20;

/// Downloads the files of one commit.
pub struct Download<'a> {
    client: &'a Client<'a>,
    repository: &'a Repository,
    commit: &'a str,
    progress: &'a dyn Progress,
}

impl<'a> Download<'a> {
    /// From `client` into `repository`; nothing is requested yet.
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

    /// The directory with the links to the files.
    pub fn snapshot(&self) -> PathBuf {
        self.repository.snapshot(self.commit)
    }

    /// The path of a file, downloaded unless it is there. Waits while another process downloads it.
    pub fn file(&self, name: &str) -> Result<PathBuf, Error> {
        let link = self.snapshot().join(name);
        if link.is_file() {
            return Ok(link);
        }
        let remote = self.client.describe(self.commit, name)?;
        let blob = self.repository.blob(&remote.etag);
        let _lock = self.repository.lock(&remote.etag)?;
        // Asked under the lock: another process may have completed the file meanwhile.
        if !blob.is_file() {
            let partial = blob.with_file_name(format!("{}.compress.incomplete", remote.etag));
            self.fill(name, &remote, &partial)?;
            verify(name, &remote, &partial)?;
            fs::rename(&partial, &blob).map_err(Error::io(blob))?;
        }
        self.repository.link(self.commit, name, &remote.etag)?;
        Ok(link)
    }

    /// Downloads to `partial`, with retries as long as each attempt has added bytes: a connection
    /// that drops now and then is no failure, one that gives nothing is.
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

    /// One attempt, from the end of what is there.
    fn continue_with(&self, name: &str, remote: &Remote, partial: &Path) -> Result<(), Error> {
        let mut done = length(partial);
        // All arrived before a kill; a range from the end would be an error of the server.
        if done == remote.size && partial.is_file() {
            return Ok(());
        }
        // Longer than announced: of another file, so it starts again.
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

    /// Writes the body to disk, and syncs it when all of it has arrived. Fails as interrupted where
    /// it ends early.
    fn copy(&self, name: &str, reader: impl Read, mut target: Target) -> Result<(), Error> {
        let interrupted = |reason: String| Error::Interrupted {
            file: name.to_owned(),
            reason,
        };
        // One byte more than announced shows that it is another file, and an endless body cannot
        // fill the disk.
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

/// The file that is written: bytes `done` of `size`.
struct Target<'a> {
    file: File,
    path: &'a Path,
    done: u64,
    size: u64,
}

/// Compares size and SHA-256 with the announced ones, and deletes the file where they differ:
/// continued, it would never become right.
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

/// The SHA-256 in an `ETag` of 64 hexadecimal digits; none for the git hash of a small file.
fn announced(etag: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(etag.get(at..at + 2)?, 16).ok();
    (etag.len() == 64).then(|| (0..64).step_by(2).map(byte).collect())?
}

/// The SHA-256 of a file.
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

/// The length of a file, 0 where there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
