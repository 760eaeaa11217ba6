//! A picture of singular spectra: one panel per role, one line per block.
//!
//! Spectra are scaled to their largest value, so that only their shape shows: how fast they fall decides what a rank
//! is worth.

use std::path::Path;

use anyhow::Result;
use compress_chart::{Axis, Chart, Line, Look, Scale, Size, Svg};
use compress_core::{Role, Site};

/// Width of a panel, and height of its plot, in pixels.
const PANEL: Size = Size {
    width: 320.0,
    height: 150.0,
};

/// Panels side by side.
const COLUMNS: usize = 2;

/// Least share of the largest singular value that is drawn.
const LEAST: f64 = 1e-4;

/// Writes σᵢ / σ₁ against i / min(m, n), for the given weights with their singular values.
pub fn draw(path: &Path, spectra: &[(Site, &[f64])]) -> Result<()> {
    let mut svg = Svg::default();
    let ends = spectra
        .iter()
        .filter_map(|(_, sigma)| Some(sigma.last()? / sigma.first()?));
    // The same for all panels, so that they compare.
    let least = ends.fold(1.0, f64::min).max(LEAST);
    let mut bottom: f64 = 0.0;
    let mut top = 0.0;
    for (index, role) in Role::ALL.into_iter().enumerate() {
        if index % COLUMNS == 0 {
            top = bottom;
        }
        let left = PANEL.width * (index % COLUMNS) as f64;
        let of_role = spectra.iter().filter(|(site, _)| site.role() == Some(role));
        let height =
            panel(role, least, &of_role.copied().collect::<Vec<_>>()).draw(&mut svg, (left, top));
        bottom = bottom.max(top + height);
    }
    super::write(path, &svg.finish((PANEL.width * COLUMNS as f64, bottom)))
}

/// The spectra of one role, smaller values on the lower edge.
fn panel(role: Role, least: f64, spectra: &[(Site, &[f64])]) -> Chart {
    let axes = (Axis::new("", Scale::Linear), Axis::new("", Scale::Log));
    let mut chart = Chart::new(axes.0, axes.1);
    chart.title = Some(role.name().to_owned());
    chart.size = PANEL;
    chart.least = Some(least);
    let last = spectra.iter().filter_map(|(site, _)| site.layer()).max();
    let lines = spectra.iter().map(|(site, sigma)| {
        let largest = sigma.first().copied().unwrap_or(1.0);
        let shares = sigma.iter().map(|s| (s / largest).clamp(LEAST, 1.0));
        let places = (0..).map(|index| f64::from(index) / sigma.len() as f64);
        // From blue for the first block to red for the last.
        let place = site.layer().unwrap_or(0) as f64 / last.unwrap_or(0).max(1) as f64;
        let colour = format!("hsl({:.0}, 70%, 50%)", 215.0 * (1.0 - place));
        let mut look = Look::plain(0);
        look.colour = colour.into();
        Line::new("", places.zip(shares).collect(), look)
    });
    chart.lines = lines.collect();
    chart
}
