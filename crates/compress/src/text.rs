//! Reading texts, and naming what was read.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// A text with its line ends as `\n`, whatever they are in the file, as Python reads it: published figures were taken
/// so. Fails where it is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the text {}", path.display()))?;
    // A large text is not copied for nothing.
    Ok(if text.contains("\r\n") {
        text.replace("\r\n", "\n")
    } else {
        text
    })
}

/// A digest of some tokens, which stands for a text in keys: the same text in another file has the same.
pub fn digest<'a>(tokens: impl IntoIterator<Item = &'a u32>) -> Vec<u8> {
    let bytes = tokens.into_iter().flat_map(|token| token.to_le_bytes());
    Sha256::digest(bytes.collect::<Vec<u8>>()).to_vec()
}
