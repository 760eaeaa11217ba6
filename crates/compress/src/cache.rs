//! The folder for what is kept between runs, as the platform has it.
//!
//! Two kinds of things lie there: `evidence`, which is kept up to a limit, and `passing`, which goes with its
//! command.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};

/// A folder of ours in the user's cache, made where it is not there yet.
pub fn folder(name: &str) -> Result<PathBuf> {
    let folder = place(name)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Where a folder of ours lies, or would.
pub fn place(name: &str) -> Result<PathBuf> {
    let place = |variable: &str, below: &str| {
        // An empty variable counts as none, as the XDG specification says.
        let value = env::var_os(variable).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value).join(below))
    };
    let root = place("XDG_CACHE_HOME", "compress")
        .or_else(|| place("LOCALAPPDATA", "compress"))
        .or_else(|| place("HOME", ".cache/compress"))
        .context("no folder to keep things in: set XDG_CACHE_HOME or HOME")?;
    Ok(root.join(name))
}

/// Bytes that the evidence in the cache may take before the one that was used longest ago is removed.
const LIMIT: u64 = 10_000_000_000;

/// The folder for measurements that nobody gave a place, with room in it: stores beyond the limit are removed here,
/// before a new one is made. Stores that a run uses stay.
pub fn evidence() -> Result<PathBuf> {
    let folder = folder("evidence")?;
    compress_calibrate::shrink(&folder, LIMIT)?;
    Ok(folder)
}
