//! Reading texts.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// A text with its line ends as `\n`, whatever they are in the file, as Python reads it.
pub fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the text {}", path.display()))?;
    Ok(text.replace("\r\n", "\n"))
}
