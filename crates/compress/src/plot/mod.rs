//! Pictures, as SVG: of a comparison, a loss curve, a plan, and singular spectra.
//!
//! Each is drawn from figures that are there already; where a picture goes is checked before any work (`side`).

pub mod comparison;
pub mod curve;
pub mod ranks;
pub mod spectra;

use std::{error::Error, path::Path};

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;

/// One colour per line, told apart by most eyes.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// The area that is drawn on, or a panel of it.
type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The colour of a share: from white for 0 to dark blue for 1.
fn shade(share: f64) -> RGBColor {
    let share = share.clamp(0.0, 1.0);
    let channel = |end: f64| (255.0 + (end - 255.0) * share) as u8;
    RGBColor(channel(8.0), channel(48.0), channel(107.0))
}

/// Writes what `draw` draws, on white, as an SVG of `size` pixels.
fn write(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> std::result::Result<(), Box<dyn Error>>,
) -> Result<()> {
    let paint = || {
        let canvas = SVGBackend::new(path, size).into_drawing_area();
        canvas.fill(&WHITE)?;
        draw(&canvas)?;
        canvas.present()?;
        Ok::<_, Box<dyn Error>>(())
    };
    paint()
        // Errors of drawing cannot be sent between threads: their words are kept.
        .map_err(|e| anyhow!("{e}"))
        .with_context(|| format!("cannot draw {}", path.display()))
}
