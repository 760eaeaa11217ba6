//! The cache folder of one model, laid out as `huggingface_hub` lays it out.
//!
//! ```text
//! models--org--name/blobs/ETAG                   a file's content, only ever whole
//! models--org--name/snapshots/COMMIT/NAME        a link to its blob
//! models--org--name/refs/REVISION                the commit that a branch or tag stood for
//! .locks/models--org--name/ETAG.lock             held while a blob is written
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::names::is_plain;
use crate::{Error, ModelId};

/// One model's folder.
pub struct Repository {
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// The folder of `id` in `cache`, which need not exist.
    pub fn new(cache: &Path, id: &ModelId) -> Self {
        let folder = format!("models--{}", id.repository().replace('/', "--"));
        Self {
            root: cache.join(&folder),
            locks: cache.join(".locks").join(folder),
        }
    }

    /// The commit that `revision` stood for when it was last asked for, or is.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_plain(revision) && self.snapshot(revision).is_dir() {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision))
            .ok()?
            .trim()
            .to_owned();
        is_plain(&commit).then_some(commit)
    }

    /// Notes that `revision` stands for `commit`.
    pub fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.reference(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        make_parent(&path)?;
        fs::write(&path, commit).map_err(Error::io(path))
    }

    /// The directory of the files of `commit`.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where the content that the hub calls `etag` is, or will be.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Waits until no other program, Python's included, writes the blob. Let go of when dropped.
    pub fn lock(&self, etag: &str) -> Result<File, Error> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        make_parent(&self.blob(etag))?;
        let file = File::create(&path).map_err(Error::io(&path))?;
        file.lock().map_err(Error::io(path))?;
        Ok(file)
    }

    /// Makes `name` of `commit` the blob `etag`.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), Error> {
        let link = self.snapshot(commit).join(name);
        make_parent(&link)?;
        if link.is_symlink() {
            fs::remove_file(&link).map_err(Error::io(&link))?;
        }
        let up = "../".repeat(name.split('/').count() + 1);
        symlink(&self.blob(etag), &format!("{up}blobs/{etag}"), &link).map_err(Error::io(link))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }
}

#[cfg(unix)]
fn symlink(_blob: &Path, target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Where links are not allowed, as on Windows without developer mode, the file itself moves.
#[cfg(not(unix))]
fn symlink(blob: &Path, _target: &str, link: &Path) -> io::Result<()> {
    fs::rename(blob, link)
}

fn make_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(Error::io(parent))
}
