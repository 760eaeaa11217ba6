//! Folders for what is needed only while a command runs: the models of a comparison, and its original's states.
//!
//! They lie in the user's cache: models are too large for a temporary folder, which is often memory. Each has a lock
//! beside it, so that the next run can tell one that a killed run has left, and remove it.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};
use compress_checkpoint::Lock;

use crate::{cache, interrupt};

/// A folder that goes when this value does, or when the command is interrupted; only a kill leaves it.
pub struct Passing {
    /// Named by the id of the process.
    path: PathBuf,
    /// Dropped after the folder is removed.
    _lock: Lock,
}

impl Passing {
    /// Makes one, and removes those that killed runs have left. Fails where the cache cannot be written.
    pub fn new() -> Result<Self> {
        let root = cache::folder("passing")?;
        tidy(&root);
        let path = root.join(process::id().to_string());
        let beside = path.with_extension(LOCK);
        let lock = Lock::take(&beside, &path)?;
        // Of a process with this number that is no more, or it would hold the lock.
        if path.exists() {
            remove(&path)?;
        }
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        interrupt::remove(path.clone(), Some(beside));
        Ok(Self { path, _lock: lock })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // A destructor cannot fail; the next run tries again.
        if let Err(error) = remove(&self.path) {
            tell!("warning: {error:#}");
        }
    }
}

/// The extension of the lock beside a folder.
const LOCK: &str = "lock";

/// Removes the folders that nobody holds. What cannot be removed is left for another time.
fn tidy(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    // By folder and by lock: of those that a killed run has left, the one may be there without the other.
    for folder in entries.map(|entry| entry.path().with_extension("")) {
        // They are called as their processes are.
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if name.parse::<u32>().is_ok()
            && let Ok(_held) = Lock::take(&folder.with_extension(LOCK), &folder)
        {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Removes a folder and all that is in it.
fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
