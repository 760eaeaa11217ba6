//! The small model and the sample texts that are part of the program: it can be tried without a download.
//!
//! They are made by `models/train`.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::interrupt;

/// The name under which reports show the shipped model.
pub const NAME: &str = "tiny (shipped)";

/// The text that is scored where none is given.
pub const SAMPLE: &str = include_str!("../../../models/tiny/sample.txt");

/// The text to calibrate on where none is given.
pub const CALIBRATION: &str = include_str!("../../../models/tiny/calibration.txt");

/// The files of the model.
const FILES: [(&str, &[u8]); 4] = [
    (
        "config.json",
        include_bytes!("../../../models/tiny/config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../../models/tiny/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../../models/tiny/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../models/tiny/tokenizer_config.json"),
    ),
];

/// Lays the shipped model out in a temporary directory, which goes with the returned guard.
pub fn unpack() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("compress-tiny").tempdir();
    let folder = folder.context("no temporary directory for the shipped model")?;
    // Before the first file: an interrupt may come at any moment.
    interrupt::remove(folder.path().to_owned(), None);
    for (name, contents) in FILES {
        write(&folder.path().join(name), contents)?;
    }
    Ok(folder)
}

/// Writes a file, or says which it was.
fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}
