//! How much a folder takes.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of all files in a folder and those in it, none where it is not there. Links are not followed: the hub's cache
/// has each file once, and links to it. What cannot be read counts as empty.
pub fn bytes(folder: &Path) -> Option<u64> {
    if !folder.is_dir() {
        return None;
    }
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of a link its own, not those of what it leads to.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                left.push(entry.path());
            } else if metadata.is_file() {
                bytes += metadata.len();
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_depths_count_once_and_links_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("a"), [0; 10]).unwrap();
        fs::write(inner.join("b"), [0; 5]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), inner.join("around")).unwrap();
        assert_eq!(bytes(folder.path()), Some(15));
        assert_eq!(bytes(&folder.path().join("none")), None);
    }
}
