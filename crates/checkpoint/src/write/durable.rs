//! Durable writes: a file that was renamed or recorded in the journal survives a power cut.
//!
//! The order is always the same: data, fsync, then the name or the journal line that refers to it,
//! fsync. Each fsync costs milliseconds.

use std::{
    fs::{self, File},
    path::Path,
};

use crate::{Error, Result};

/// Writes a file under the name `path.part` and renames it to `path`: readers see the old contents
/// or the new, never a part. Durable on return.
pub fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = Path::new(&beside);
    fs::write(beside, contents).map_err(Error::io(beside))?;
    put_in_place(beside, path)
}

/// Syncs a finished file and renames it to `path`, atomically replacing a file that is there.
/// Durable on return. Fails where either cannot be synced or renamed; both must lie on one file
/// system.
pub fn put_in_place(part: &Path, path: &Path) -> Result<()> {
    sync_file(part)?;
    fs::rename(part, path).map_err(Error::io(path))?;
    // The name is an entry of the folder, and durable only when that is synced.
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes a file durable that has its name already, and the name.
pub fn settle(path: &Path) -> Result<()> {
    sync_file(path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the contents of a file durable.
fn sync_file(path: &Path) -> Result<()> {
    // Opened for writing: some systems refuse to sync a file that is open for reading only.
    let file = File::options().write(true).open(path);
    let synced = file.and_then(|file| file.sync_all());
    synced.map_err(Error::io(path))
}

/// Makes the names in a folder durable: files created, renamed or removed there.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Elsewhere folders cannot be opened as files, and their names are kept by the system's own
    // journal.
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(Error::io(folder))?;
    }
    Ok(())
}

/// Makes all files below a folder durable, contents and names, deepest first.
pub fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(Error::io(&path))?;
        }
    }
    sync_folder(folder)
}
