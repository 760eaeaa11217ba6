//! Files that are whole or absent, whatever ends the program or the machine.

use std::path::{Path, PathBuf};

use compress_checkpoint::put_in_place;

use crate::Result;

/// Writes a file under a temporary name, then syncs and renames it to `path`, whose old contents stay until then.
/// Fails where `write` does, or the file system.
pub fn put(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    write(&part)?;
    Ok(put_in_place(&part, path)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;
    use crate::Error;

    #[test]
    fn what_is_there_stays_until_all_of_the_new_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "old").unwrap();
        let failed = put(&path, |part| {
            fs::write(part, "half").unwrap();
            Err(Error::Nothing)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        put(&path, |part| {
            fs::write(part, "new").map_err(Error::io(part))
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1);
    }
}
