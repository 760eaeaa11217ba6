//! Small things that all passes share: window lengths, finite numbers, files.

use std::{fs, path::Path};

use crate::{Error, Result};

/// Tokens whose activations are in memory at a time, in whole windows.
const TOKENS: usize = 2048;

/// Windows that go through a block side by side: 2048 tokens, but at least one window per thread.
pub fn side_by_side(time: usize) -> usize {
    (TOKENS / time).max(rayon::current_num_threads())
}

/// The length of all windows; an error where there are none, lengths differ, or a window has less than 2 tokens.
pub fn length(windows: &[Vec<u32>]) -> Result<usize> {
    let time = windows.first().map_or(0, Vec::len);
    if time < 2 || windows.iter().any(|window| window.len() != time) {
        let problem = format!("got {} windows, the first of {time} tokens", windows.len());
        return Err(Error::Windows { problem });
    }
    Ok(time)
}

/// Whether no number is NaN or infinite.
pub fn finite(numbers: &[f32]) -> bool {
    // A fold without an early return is vectorised.
    numbers.iter().fold(true, |all, x| all & x.is_finite())
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
