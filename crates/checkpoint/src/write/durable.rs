//! Files that are on disk when they are said to be: what is renamed or vouched for survives a power cut.
//!
//! The order is always the same: data, fsync, then the name or the line that says it is there, fsync.

use std::{
    fs::{self, File},
    path::Path,
};

use crate::{Error, Result};

/// Writes a file beside its place and renames it, so that its name leads to the old contents or the new.
pub fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = Path::new(&beside);
    fs::write(beside, contents).map_err(Error::io(beside))?;
    put_in_place(beside, path)
}

/// Gives a file that is all written its place, in that of what is there: at any moment one of both is there.
pub fn put_in_place(part: &Path, path: &Path) -> Result<()> {
    let file = File::options().write(true).open(part);
    let synced = file.and_then(|file| file.sync_all());
    synced.map_err(Error::io(part))?;
    fs::rename(part, path).map_err(Error::io(path))?;
    // The name is an entry of the folder, which is written by itself.
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder last.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Elsewhere folders cannot be opened as files, and their names are kept by the system's own journal.
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(Error::io(folder))?;
    }
    Ok(())
}

/// Makes all files in a folder and the folders within it last, and their names.
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
