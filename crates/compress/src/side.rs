//! Pictures and logs beside a result: where they go is checked before the work, not after it.

use std::{
    fs::{self, OpenOptions},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use compress_checkpoint::Input;
use tempfile::NamedTempFile;

/// Refuses a file that could not be written, or that would replace what the run reads.
pub fn check(path: Option<&Path>, inputs: &[Input<'_>]) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let shown = path.display();
    ensure!(
        !path.is_dir(),
        "{shown} is a folder; give the name of a file"
    );
    for input in inputs {
        let (Input::Model(input) | Input::Other(input)) = input;
        let same = || Some(input.canonicalize().ok()? == path.canonicalize().ok()?);
        ensure!(
            same() != Some(true),
            "{shown} is read by this run; write to another file"
        );
    }
    try_to_write(path).with_context(|| format!("cannot write {shown}"))
}

/// Opens a file as if to write it, and changes nothing.
fn try_to_write(path: &Path) -> std::io::Result<()> {
    if fs::metadata(path).is_ok() {
        return OpenOptions::new().append(true).open(path).map(|_| ());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    NamedTempFile::new_in(parent).map(|_| ())
}
