//! A picture of a comparison: perplexity against megabytes, of weights or of a window's cache, a line per method and
//! options.
//!
//! Variants that differ in their budget only are points of one line.

use std::{collections::BTreeMap, error::Error, path::Path};

use anyhow::{Result, ensure};
use plotters::prelude::*;
use serde_json::Value;

use super::{COLOURS, Canvas};
use crate::report::comparison::Row;

/// Writes an SVG; fails where no variant has figures.
pub fn draw(path: &Path, rows: &[Row]) -> Result<()> {
    // Where no cache differs from the original's, it is weights that got smaller.
    let cached = rows.iter().filter_map(Row::report).any(is_thinned);
    let (size, what): (fn(&Value) -> &Value, _) = if cached {
        (
            |model| &model["cache"]["bytes"],
            "megabytes of a window's cache",
        )
    } else {
        (|model| &model["bytes"], "megabytes of weights")
    };
    let lines = lines(rows, size);
    ensure!(
        !lines.is_empty(),
        "there is nothing to plot: no variant has figures"
    );
    let mut reports = rows.iter().filter_map(Row::report);
    let original = reports.find_map(|report| report["before"]["perplexity"].as_f64());
    super::write(path, (800, 500), |canvas| {
        render(canvas, &lines, (what, original))
    })
}

/// Whether a variant's cache has another size than the original's.
fn is_thinned(report: &Value) -> bool {
    let bytes = |model: &str| report[model]["cache"]["bytes"].as_f64();
    matches!((bytes("before"), bytes("after")), (Some(b), Some(a)) if (a - b).abs() > 0.01 * b)
}

/// The points of each line, megabytes and perplexity, from the smallest model to the largest; the key is the command
/// without its budget.
fn lines(rows: &[Row], size: fn(&Value) -> &Value) -> BTreeMap<String, Vec<(f64, f64)>> {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        // A variant that failed has no place in the picture.
        let Some(after) = row.report().map(|report| &report["after"]) else {
            continue;
        };
        if let (Some(bytes), Some(perplexity)) =
            (size(after).as_f64(), after["perplexity"].as_f64())
        {
            lines
                .entry(without_budget(&row.command))
                .or_default()
                .push((bytes / 1e6, perplexity));
        }
    }
    for points in lines.values_mut() {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}

/// A command without the options that say how far, each with its value; of think's, which may be several, the names stay.
fn without_budget(command: &str) -> String {
    const OF_CACHES: [&str; 5] = [
        "--lambda",
        "--values",
        "--tokens",
        "--cache-bits",
        "--per-layer",
    ];
    let mut words = command.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--keep" || word == "--target-size" {
            words.next();
        } else if OF_CACHES.contains(&word) {
            // λ = 0 is what one says to have another option alone.
            if words.next() != Some("0.0") {
                kept.push(word);
            }
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Round numbers for an axis: 1, 2 and 5 times powers of ten where the range is wide, else some equal steps.
fn ticks((least, most): (f64, f64)) -> Vec<f64> {
    let powers = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|x| x * 10_f64.powi(power)));
    if most > 8.0 * least {
        return powers
            .filter(|x| (least * 0.97..most * 1.03).contains(x))
            .collect();
    }
    let span = (most - least).max(0.02 * most);
    let step = powers
        .into_iter()
        .find(|step| span / step <= 8.0)
        .unwrap_or(span);
    let first = (least / step).floor() as i64;
    let last = (most / step).ceil() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Draws lines and their points, perplexity on a logarithmic scale.
fn render(
    canvas: &Canvas<'_>,
    lines: &BTreeMap<String, Vec<(f64, f64)>>,
    (what, original): (&str, Option<f64>),
) -> std::result::Result<(), Box<dyn Error>> {
    let points = || lines.values().flatten();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let least = points().map(of).fold(f64::INFINITY, f64::min);
        let most = points().map(of).fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    };
    let (bytes, mut perplexity) = (range(|point| point.0), range(|point| point.1));
    perplexity.0 = original.map_or(perplexity.0, |original| original.min(perplexity.0));
    // At least a little, so that one single point has an axis, too.
    let margin = (bytes.1 - bytes.0).max(0.01 * bytes.1) * 0.05;
    let mut chart = ChartBuilder::on(canvas)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(65)
        .build_cartesian_2d(
            bytes.0 - margin..bytes.1 + margin,
            (perplexity.0 * 0.97..perplexity.1 * 1.03)
                .log_scale()
                .with_key_points(ticks(perplexity)),
        )?;
    chart
        .configure_mesh()
        .x_desc(what)
        .y_desc("perplexity")
        .light_line_style(WHITE)
        .draw()?;
    if let Some(original) = original {
        let ends = [bytes.0 - margin, bytes.1 + margin].map(|x| (x, original));
        let grey = BLACK.mix(0.4);
        let line = chart.draw_series(LineSeries::new(ends, grey))?;
        line.label("original")
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], grey));
    }
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(name)
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2)));
        let dots = points
            .iter()
            .map(|&point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        // Small is to the left, and bad is above: where nobody wants to be is room.
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
