//! A picture of training: the loss of each step, and that of the held-out windows.

use std::{error::Error, path::Path};

use anyhow::Result;
use compress_tune::Point;
use plotters::prelude::*;

use super::{COLOURS, Canvas};

/// Writes a loss curve against steps; blocks that are distilled come one after the other.
pub fn draw(path: &Path, curve: &[Point]) -> Result<()> {
    super::write(path, (800, 450), |canvas| render(canvas, curve))
}

/// Draws both curves on a logarithmic scale, which begins at 1e-9 at the least: there is no logarithm of a loss of 0.
fn render(canvas: &Canvas<'_>, curve: &[Point]) -> std::result::Result<(), Box<dyn Error>> {
    // By place, not by step: the steps of a distillation begin anew with each block.
    let steps: Vec<(f64, f64)> = (0..)
        .zip(curve)
        .map(|(index, point)| (f64::from(index), point.loss))
        .filter(|(_, loss)| loss.is_finite()) // the last step of a training that diverged
        .collect();
    let held_out: Vec<(f64, f64)> = (0..)
        .zip(curve)
        .filter_map(|(index, point)| Some((f64::from(index), point.held_out?)))
        .collect();
    let losses = || steps.iter().chain(&held_out).map(|point| point.1);
    let least = losses().fold(f64::INFINITY, f64::min).max(1e-9);
    let most = losses().fold(least, f64::max);
    let mut chart = ChartBuilder::on(canvas)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(65)
        .build_cartesian_2d(
            0.0..curve.len().max(1) as f64,
            (least * 0.95..most * 1.05).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("steps")
        .y_desc("loss")
        .light_line_style(WHITE)
        .draw()?;
    for (name, points, colour) in [
        ("training", steps, COLOURS[5]),
        ("held out", held_out, COLOURS[1]),
    ] {
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
