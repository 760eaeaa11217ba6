//! A picture of a comparison: perplexity against bits per weight of the blocks, or against the bytes of a window's
//! cache, a line per method and options.
//!
//! Variants that differ in their budget only are points of one line. A method has one colour and one marker, its options
//! have dashes; where there is one method, its options have the colours. Bits of block weights are the axis since methods
//! change nothing else: beside a large embedding, sizes of whole files are all alike. These are written above.

use std::path::Path;

use anyhow::{Result, ensure};
use compress_chart::{Axis, Chart, Line, Look, Scale, TopAxis, frontier};
use serde_json::Value;

use crate::report::comparison::Row;

/// Times the original's perplexity, above which a model says nothing any more: lines leave the picture there.
const MOST: f64 = 30.0;

/// Writes an SVG; fails where no variant has figures.
pub fn draw(path: &Path, rows: &[Row]) -> Result<()> {
    super::write(path, &svg(rows)?)
}

/// The picture as text.
pub fn svg(rows: &[Row]) -> Result<String> {
    // Where no cache differs from the original's, it is weights that got smaller.
    let cached = rows.iter().filter_map(Row::report).any(is_thinned);
    let (size, what): (fn(&Value) -> Option<f64>, _) = if cached {
        (cache_megabytes, "megabytes of a window's cache")
    } else {
        (block_bits, "bits per weight of the blocks")
    };
    let series = series(rows, size);
    ensure!(
        !series.is_empty(),
        "there is nothing to plot: no variant has figures"
    );
    let points = || series.iter().flat_map(|one| one.points.iter().copied());
    let wide = {
        let sizes = points().map(|point| point.0);
        let (least, most) = sizes.fold((f64::INFINITY, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
        most > 3.0 * least
    };
    let scale = match (wide, cached) {
        (false, _) => Scale::Linear,
        (true, true) => Scale::Log,
        (true, false) => Scale::Log2,
    };
    let mut chart = Chart::new(Axis::new(what, scale), Axis::new("perplexity", Scale::Log));
    chart.frontier = frontier(points());
    chart.top = if cached { None } else { whole_files(rows) };
    chart.lines = lines(series);
    let mut reports = rows.iter().filter_map(Row::report);
    let original = reports.find_map(|report| report["before"]["perplexity"].as_f64());
    chart.most = original.map(|original| MOST * original);
    for line in &mut chart.lines {
        let most = chart.most.unwrap_or(f64::INFINITY);
        if line.points.iter().all(|point| point.1 > most) {
            line.name.push_str(" (above)");
        }
    }
    chart.level = original.map(|x| (format!("original, {}", crate::report::figure(x)), x));
    Ok(chart.svg())
}

/// Whether a variant's cache has another size than the original's.
fn is_thinned(report: &Value) -> bool {
    let bytes = |model: &str| report[model]["cache"]["bytes"].as_f64();
    matches!((bytes("before"), bytes("after")), (Some(b), Some(a)) if (a - b).abs() > 0.01 * b)
}

/// The size of a model's cache.
fn cache_megabytes(model: &Value) -> Option<f64> {
    Some(model["cache"]["bytes"].as_f64()? / 1e6)
}

/// The bits of a number in the weights of a model's blocks.
pub fn block_bits(model: &Value) -> Option<f64> {
    Some(8.0 * model["block_bytes"].as_f64()? / model["block_weights"].as_f64()?)
}

/// The axis of whole files, which are the blocks and all that is no weight of a block.
fn whole_files(rows: &[Row]) -> Option<TopAxis> {
    let models = rows.iter().filter_map(|row| Some(&row.report()?["after"]));
    let rest = |model: &Value| Some(model["bytes"].as_f64()? - model["block_bytes"].as_f64()?);
    let mut rests: Vec<f64> = models.clone().filter_map(rest).collect();
    rests.sort_by(f64::total_cmp);
    let (least, usual, most) = (rests.first()?, rests.get(rests.len() / 2)?, rests.last()?);
    // A rounded embedding makes less of the rest; the axis is then that of the others.
    let alike = most - least < 0.01 * most;
    let label = if alike {
        "megabytes on disk"
    } else {
        "megabytes on disk, where the embedding is not rounded"
    };
    let weights = models
        .clone()
        .find_map(|model| model["block_weights"].as_f64())?;
    Some(TopAxis {
        label: label.into(),
        offset: usual / 1e6,
        slope: weights / 8e6,
    })
}

/// Variants that differ in their budget only.
struct Series {
    /// The method.
    method: String,
    /// Method and options, without the budget.
    name: String,
    /// Size and perplexity, from the smallest model to the largest.
    points: Vec<(f64, f64)>,
}

/// The variants with figures, those of one method behind each other.
fn series(rows: &[Row], size: fn(&Value) -> Option<f64>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for row in rows {
        // A variant that failed has no place in the picture.
        let Some(after) = row.report().map(|report| &report["after"]) else {
            continue;
        };
        let (Some(size), Some(perplexity)) = (size(after), after["perplexity"].as_f64()) else {
            continue;
        };
        let name = without_budget(&row.command);
        let place = all.iter().position(|one| one.name == name);
        let place = place.unwrap_or_else(|| {
            let method = name.split(' ').next().unwrap_or_default().to_owned();
            all.push(Series {
                method,
                name,
                points: Vec::new(),
            });
            all.len() - 1
        });
        all[place].points.push((size, perplexity));
    }
    for one in &mut all {
        one.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    // Stable: within a method the order is that of the variants.
    let methods: Vec<String> = all.iter().map(|one| one.method.clone()).collect();
    all.sort_by_key(|one| methods.iter().position(|method| *method == one.method));
    all
}

/// The lines with their looks.
fn lines(series: Vec<Series>) -> Vec<Line> {
    let mut methods: Vec<String> = series.iter().map(|one| one.method.clone()).collect();
    methods.dedup();
    let mut seen = vec![0; methods.len()];
    let lines = series.into_iter().enumerate().map(|(index, one)| {
        let family = methods.iter().position(|method| *method == one.method);
        let family = family.unwrap_or_default();
        let member = seen[family];
        seen[family] += 1;
        let look = if methods.len() > 1 {
            Look::marked(family, member)
        } else {
            Look::marked(index, 0)
        };
        Line::new(one.name, one.points, look)
    });
    lines.collect()
}

/// A command without the options that say how far, each with its value; of think's, which may be several, the names stay.
fn without_budget(command: &str) -> String {
    const BUDGETS: [&str; 3] = ["--keep", "--target-size", "--bits"];
    const OF_CACHES: [&str; 7] = [
        "--lambda",
        "--values",
        "--tokens",
        "--cache-bits",
        "--key-bits",
        "--value-bits",
        "--per-layer",
    ];
    let caches = command.starts_with("think");
    let mut words = command.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if BUDGETS.contains(&word) {
            words.next();
        } else if caches && OF_CACHES.contains(&word) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_that_differ_in_their_budget_are_one_line() {
        for (command, name) in [
            (
                "svd --metric activation --keep 0.9",
                "svd --metric activation",
            ),
            ("lorc --bits 4 --tokens uniform", "lorc --tokens uniform"),
            ("think --lambda 0.4 --fold", "think --lambda --fold"),
            ("think --lambda 0.0 --cache-bits 4", "think --cache-bits"),
        ] {
            assert_eq!(without_budget(command), name);
        }
    }
}
