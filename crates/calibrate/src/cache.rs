//! The folder of all stores of evidence: what is in it, and keeping it from growing without end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    Error, Result,
    store::{GONE, USE, remove_unused},
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
        // What a run that was killed while it removed a store has left.
        if is_going(&folder) {
            let _ = fs::remove_dir_all(&folder);
            continue;
        }
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

/// Whether a folder has the name of a store that is being removed.
fn is_going(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let (store, rest) = name.split_once('.').unwrap_or_default();
    let digits = store.len() == 16 && store.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ours = rest
        .strip_suffix(GONE)
        .and_then(|rest| rest.strip_suffix('.'));
    digits && ours.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
}

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
