//! The cache folder of one model, in the layout of `huggingface_hub`.
//!
//! ```text
//! models--org--name/blobs/ETAG                   the content of a file, always complete
//! models--org--name/snapshots/COMMIT/NAME        a symbolic link to its blob
//! models--org--name/refs/REVISION                the commit of a branch or tag at the last download
//! .locks/models--org--name/ETAG.lock             locked while a blob is written
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::names::is_plain;
use crate::{Error, ModelId};

/// The cache folder of one model.
pub struct Repository {
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// The folder of `id` in `cache`. Nothing is created before a file is written.
    pub fn new(cache: &Path, id: &ModelId) -> Self {
        let folder = format!("models--{}", id.repository().replace('/', "--"));
        Self {
            root: cache.join(&folder),
            locks: cache.join(".locks").join(folder),
        }
    }

    /// The commit of a revision: the revision itself where a snapshot has its name, else the commit
    /// of the last download.
    pub fn commit(&self, revision: &str) -> Option<String> {
        // A commit is its own revision, and needs no entry in `refs`.
        if is_plain(revision) && self.snapshot(revision).is_dir() {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision))
            .ok()?
            .trim()
            .to_owned();
        // The file is input: its content becomes part of a path.
        is_plain(&commit).then_some(commit)
    }

    /// Records the commit of a branch or tag. Not written where it is up to date, so that a
    /// complete cache can be read-only.
    pub fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.reference(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        make_parent(&path)?;
        fs::write(&path, commit).map_err(Error::io(path))
    }

    /// The directory with the files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The place of a file's content, by the `ETag` that the hub gives it.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Waits for the lock on a blob, which `huggingface_hub` takes as well. Released when the file
    /// is dropped. Fails where the folder cannot be written.
    pub fn lock(&self, etag: &str) -> Result<File, Error> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        // The holder of the lock is about to write there.
        make_parent(&self.blob(etag))?;
        let file = File::create(&path).map_err(Error::io(&path))?;
        file.lock().map_err(Error::io(path))?;
        Ok(file)
    }

    /// Makes `name` in the snapshot of `commit` a link to a blob, replacing an earlier link.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), Error> {
        let link = self.snapshot(commit).join(name);
        make_parent(&link)?;
        if link.is_symlink() {
            fs::remove_file(&link).map_err(Error::io(&link))?;
        }
        // Relative, so that the cache can be moved.
        let up = "../".repeat(name.split('/').count() + 1);
        symlink(&self.blob(etag), &format!("{up}blobs/{etag}"), &link).map_err(Error::io(link))
    }

    /// The file with the commit of a branch or tag.
    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }
}

/// Creates a symbolic link to a relative target.
#[cfg(unix)]
fn symlink(_blob: &Path, target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Moves the blob itself: symbolic links need special rights on Windows.
#[cfg(not(unix))]
fn symlink(blob: &Path, _target: &str, link: &Path) -> io::Result<()> {
    fs::rename(blob, link)
}

/// Creates the folder of a path.
fn make_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(Error::io(parent))
}
