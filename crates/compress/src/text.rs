//! Reading texts, and naming what was read.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// A text with its line ends as `\n`, whatever they are in the file, as Python reads it: published figures were taken
/// so. Fails where it is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the text {}", path.display()))?;
    // A large text is not copied for nothing. A lone `\r` ends a line as well.
    Ok(if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text
    })
}

/// A digest of some tokens, which stands for a text in keys: the same text in another file has the same.
pub fn digest<'a>(tokens: impl IntoIterator<Item = &'a u32>) -> Vec<u8> {
    let bytes = tokens.into_iter().flat_map(|token| token.to_le_bytes());
    Sha256::digest(bytes.collect::<Vec<u8>>()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_python_reads_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("text.txt");
        for (written, found) in [
            ("a\r\nb\rc\n\r\n", "a\nb\nc\n\n"),
            ("a\r\r\nb\r", "a\n\nb\n"),
            ("a\nb", "a\nb"),
        ] {
            fs::write(&path, written).unwrap();
            assert_eq!(read(&path).unwrap(), found);
        }
    }
}
