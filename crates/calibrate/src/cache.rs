//! The cache of evidence: all stores in one folder, and their removal once they take too much.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    Error, Result,
    store::{GONE, USE, remove_unused},
};

/// A store of evidence in the cache.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// The time since a run last opened it.
    pub age: Duration,
}

/// The stores within a folder, those used last first; other folders and files are passed over.
///
/// Also removes what a killed run has left of a store that it was removing. Fails where the folder cannot be read.
pub fn kept(root: &Path) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::io(root))? {
        let folder = entry.map_err(Error::io(root))?.path();
        // A store that a run was removing when it was killed: it has been renamed, so nobody uses it.
        if is_going(&folder) {
            let _ = fs::remove_dir_all(&folder);
            continue;
        }
        // Every store has this file; its time is that of the last use.
        let Ok(used) = fs::metadata(folder.join(USE)).and_then(|file| file.modified()) else {
            continue;
        };
        let age = SystemTime::now().duration_since(used);
        all.push(Kept {
            bytes: bytes(&folder),
            age: age.unwrap_or_default(),
            folder,
        });
    }
    all.sort_by_key(|store| store.age);
    Ok(all)
}

/// Removes the stores that were used longest ago, until the rest has no more than `limit` bytes, and gives the bytes
/// that were freed. Stores that a run uses stay, so that the rest may be larger.
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

/// Whether a folder has the name of a store that is being removed: 16 hexadecimal digits, a process and a count,
/// `gone`.
fn is_going(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let (store, rest) = name.split_once('.').unwrap_or_default();
    let digits = store.len() == 16 && store.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ours = rest
        .strip_suffix(GONE)
        .and_then(|rest| rest.strip_suffix('.'));
    digits && ours.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
}

/// Bytes of the files of a folder.
fn bytes(folder: &Path) -> u64 {
    let mut sum = 0;
    // Another run may be tidying up: what is gone takes no space.
    for entry in fs::read_dir(folder).into_iter().flatten() {
        sum += entry
            .and_then(|entry| entry.metadata())
            .map_or(0, |file| file.len());
    }
    sum
}
