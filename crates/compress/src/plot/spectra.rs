//! A picture of singular spectra: one panel per role, one line per block.
//!
//! Spectra are scaled to their largest value, so that only their shape shows: how fast they fall decides what a rank
//! is worth.

use std::{error::Error, path::Path};

use anyhow::Result;
use compress_core::{Role, Site};
use plotters::prelude::*;

use super::Canvas;

/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (300, 240);

/// Panels side by side.
const COLUMNS: usize = 4;

/// Least share of the largest singular value that is drawn.
const LEAST: f64 = 1e-4;

/// Writes σᵢ / σ₁ against i / min(m, n), for the given weights with their singular values.
pub fn draw(path: &Path, spectra: &[(Site, &[f64])]) -> Result<()> {
    let rows = Role::ALL.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    super::write(path, size, |canvas| {
        for (panel, role) in canvas.split_evenly((rows, COLUMNS)).iter().zip(Role::ALL) {
            let of_role = spectra.iter().filter(|(site, _)| site.role() == Some(role));
            render(panel, role, &of_role.copied().collect::<Vec<_>>())?;
        }
        Ok(())
    })
}

/// Draws the spectra of one role into its panel, smaller values on the lower edge.
fn render(
    panel: &Canvas<'_>,
    role: Role,
    spectra: &[(Site, &[f64])],
) -> std::result::Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(panel)
        .caption(role.name(), ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(25)
        .y_label_area_size(45)
        .build_cartesian_2d(0.0..1.0, (LEAST..1.0).log_scale())?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    let last = spectra.iter().filter_map(|(site, _)| site.layer()).max();
    for (site, sigma) in spectra {
        let largest = sigma.first().copied().unwrap_or(1.0);
        let points = sigma.iter().enumerate().map(|(index, s)| {
            (
                index as f64 / sigma.len() as f64,
                (s / largest).clamp(LEAST, 1.0),
            )
        });
        // From blue for the first block to red for the last.
        let place = site.layer().unwrap_or(0) as f64 / last.unwrap_or(0).max(1) as f64;
        let colour = HSLColor(0.6 * (1.0 - place), 0.8, 0.45);
        chart.draw_series(LineSeries::new(points, colour.stroke_width(1)))?;
    }
    Ok(())
}
