//! Between tensors, numbers on the host, and files.

use std::{fs, path::Path};

use crate::{Error, Result};

/// Tokens that go through a block side by side, in windows: what all cores hold at a time.
const TOKENS: usize = 2048;

/// Windows that go through a block side by side: a fixed number of tokens, but no core without one.
pub fn side_by_side(time: usize) -> usize {
    (TOKENS / time).max(rayon::current_num_threads())
}

/// The length that all windows have. Fails where there are none, or lengths differ or are below 2.
pub fn length(windows: &[Vec<u32>]) -> Result<usize> {
    let time = windows.first().map_or(0, Vec::len);
    if time < 2 || windows.iter().any(|window| window.len() != time) {
        let problem = format!("got {} windows, the first of {time} tokens", windows.len());
        return Err(Error::Windows { problem });
    }
    Ok(time)
}

/// Whether no number is NaN or infinite; looks at all of them, many at a time.
pub fn finite(numbers: &[f32]) -> bool {
    numbers.iter().fold(true, |all, x| all & x.is_finite())
}

pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// For a measurement that has a kernel on the CPU only.
pub fn not_on_host() -> Error {
    let problem = "attention weights are measured on the CPU only".into();
    compress_models::Error::Execution { problem }.into()
}
