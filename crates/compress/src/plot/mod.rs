//! Pictures, as SVG: of a comparison, a loss curve, a plan, and singular spectra.
//!
//! Each is drawn from figures that are there already; where a picture goes is checked before any work (`side`).

pub mod comparison;
pub mod curve;
pub mod ranks;
pub mod spectra;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Writes a picture.
fn write(path: &Path, svg: &str) -> Result<()> {
    fs::write(path, svg).with_context(|| format!("cannot draw {}", path.display()))
}
