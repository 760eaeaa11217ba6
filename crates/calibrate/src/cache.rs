//! The folder of all stores of evidence: what is in it, and keeping it from growing without end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    Error, Result,
    store::{USE, remove_unused},
};

/// A store of evidence on disk.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where it lies.
    pub folder: PathBuf,
    /// Its files together.
    pub bytes: u64,
    /// How long ago a run used it last.
    pub age: Duration,
}

/// The stores within a folder, those used last first. What is no store is passed over.
pub fn kept(root: &Path) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::io(root))? {
        let folder = entry.map_err(Error::io(root))?.path();
        let Ok(used) = fs::metadata(folder.join(USE)).and_then(|file| file.modified()) else {
            continue;
        };
        let age = SystemTime::now().duration_since(used);
        all.push(Kept {
            bytes: bytes(&folder)?,
            age: age.unwrap_or_default(),
            folder,
        });
    }
    all.sort_by_key(|store| store.age);
    Ok(all)
}

/// Removes the stores that were used longest ago, until the rest has no more than so many bytes; how many
/// bytes went. Those in use stay.
pub fn shrink(root: &Path, limit: u64) -> Result<u64> {
    let stores = kept(root)?;
    let mut left: u64 = stores.iter().map(|store| store.bytes).sum();
    let before = left;
    for store in stores.iter().rev() {
        if left <= limit {
            break;
        }
        if remove_unused(&store.folder)? {
            left -= store.bytes;
        }
    }
    Ok(before - left)
}

fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        // Another run may be tidying up: what is gone takes no space.
        sum += entry
            .and_then(|entry| entry.metadata())
            .map_or(0, |file| file.len());
    }
    Ok(sum)
}
