//! Pictures and logs beside a result: where they go is checked before the work, not after it.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use compress_checkpoint::{Input, Output, resolved};
use tempfile::NamedTempFile;

/// Refuses a file that could not be written, or that would replace what the run reads or lie where it
/// writes; `output` is the directory that the run makes.
pub fn check(path: Option<&Path>, inputs: &[Input<'_>], output: Option<&Output>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let shown = path.display();
    ensure!(
        !path.is_dir(),
        "{shown} is a folder; give the name of a file"
    );
    // Links are followed: it counts where the file would really lie.
    let place = resolved(path).with_context(|| format!("{shown} is no name for a file"))?;
    for input in inputs {
        let (Input::Model(input) | Input::Other(input)) = input;
        // Whatever lies in a model's folder may be a part of it.
        let read = input.canonicalize().is_ok_and(|it| place.starts_with(it));
        ensure!(!read, "{shown} is read by this run; write to another file");
    }
    let written = output.is_some_and(|output| output.places().any(|it| place.starts_with(it)));
    ensure!(
        !written,
        "{shown} lies where this run writes its output; write to another file"
    );
    try_to_write(&place).with_context(|| format!("cannot write {shown}"))
}

/// Writes a file from its start, and cuts off what was behind: a run that is killed meanwhile leaves no empty file, and
/// none beside it.
pub fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// Opens a file as if to write it, and changes nothing: one that is there keeps its contents, and none is left where
/// there was none.
fn try_to_write(path: &Path) -> std::io::Result<()> {
    if fs::metadata(path).is_ok() {
        return OpenOptions::new().append(true).open(path).map(|_| ());
    }
    NamedTempFile::new_in(path.parent().unwrap_or(path)).map(|_| ())
}
