//! A picture of training: the loss of each step, and that of the held-out windows.

use std::path::Path;

use anyhow::Result;
use compress_chart::{Axis, Chart, Line, Look, Scale};
use compress_tune::Point;

/// Writes a loss curve against steps; blocks that are distilled come one after the other.
pub fn draw(path: &Path, curve: &[Point]) -> Result<()> {
    // By place, not by step: the steps of a distillation begin anew with each block.
    let places = || (0..).map(f64::from).zip(curve);
    // No logarithm of 0; and the last step of a training that diverged has no loss.
    let drawn = |loss: f64| loss.is_finite().then(|| loss.max(1e-9));
    let steps = places().filter_map(|(place, point)| Some((place, drawn(point.loss)?)));
    let held_out = places().filter_map(|(place, point)| Some((place, drawn(point.held_out?)?)));
    let mut chart = Chart::new(
        Axis::new("steps", Scale::Linear),
        Axis::new("loss", Scale::Log),
    );
    chart.lines = vec![
        Line::new("training", steps.collect(), Look::plain(6)),
        Line::new("held out", held_out.collect(), Look::plain(1)),
    ];
    super::write(path, &chart.svg())
}
