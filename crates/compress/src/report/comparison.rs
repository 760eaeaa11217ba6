//! Reports of a comparison: a line for each variant as it ends, and a table of all.
//!
//! A variant's figures are the JSON object of its run: what is printed here is what `run --json` prints.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::figure;
use crate::{memory, plot::comparison::block_bits};

/// The result of a variant.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    /// The variant's name.
    pub name: String,
    /// The method and its options, as on the command line.
    pub command: String,
    /// Its figures, or its error.
    #[serde(flatten)]
    pub outcome: VariantOutcome,
}

/// Figures, or the reason why there are none.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VariantOutcome {
    /// The JSON object of `run --json`.
    Report(Value),
    /// Why it failed.
    Error(String),
}

/// A line as soon as there is something to tell: a long comparison may be read while it runs.
pub fn line(name: &str, outcome: &VariantOutcome) -> String {
    match outcome {
        VariantOutcome::Report(report) => {
            let perplexity = report["after"]["perplexity"].as_f64();
            let perplexity = perplexity.map_or_else(String::new, figure);
            format!("{name}: perplexity {perplexity}")
        }
        VariantOutcome::Error(error) => format!("{name}: {error}"),
    }
}

/// Prints all variants in one table, or as one JSON object. The original and the text are those of the first that has
/// figures, since all share them.
pub fn print(json: bool, rows: &[Row]) -> Result<()> {
    let reports = || rows.iter().filter_map(Row::report);
    if json {
        let original = reports().next().map(|report| report["before"].clone());
        let text = reports().next().map(|report| report["text"].clone());
        return super::print(json!({
            "command": super::command(),
            "machine": memory::machine(),
            "original": original,
            "text": text,
            "variants": rows,
        }));
    }
    // Behind a prompt the size of the cache is what differs.
    let cached = reports().any(|report| !report["after"]["cache"].is_null());
    let mut header = vec![
        "variant",
        "perplexity",
        "±",
        "KL mean",
        "same top",
        "bytes",
        "×",
        "bits",
    ];
    header.extend(cached.then_some(["cache", "of f16"]).into_iter().flatten());
    header.push("seconds");
    let mut table = super::plain(header);
    // Without any figures there is nothing to say of the original, only errors.
    if let Some(report) = reports().next() {
        super::print(title(report))?;
        let before = &report["before"];
        let mut cells = vec![
            "original".to_owned(),
            number(&before["perplexity"]),
            number(&before["standard_error"]),
            String::new(),
            String::new(),
            super::size(before["bytes"].as_u64().unwrap_or_default() as usize),
            String::new(),
            bits(before),
        ];
        cells.extend(of_cache(before).filter(|_| cached).into_iter().flatten());
        table.add_row(cells);
    }
    for row in rows {
        table.add_row(cells(row, cached));
    }
    super::print(super::fitted(table))?;
    // Below the table: an error is longer than any figure.
    for row in rows {
        if let VariantOutcome::Error(error) = &row.outcome {
            super::print(format_args!("{}: {error}", row.name))?;
        }
    }
    Ok(())
}

/// The conditions that all variants share.
fn title(report: &Value) -> String {
    let text = &report["text"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} on {}, {} windows, ctx {}, {}, {}",
        word(&report["model"]),
        word(&text["name"]),
        text["windows"],
        text["context"],
        if text["bos"] == true {
            "BOS first"
        } else {
            "no BOS"
        },
        word(&text["device"]),
    )
}

/// The bytes of a model's cache, and what share they are of a whole one in 16-bit floats.
fn of_cache(model: &Value) -> Option<[String; 2]> {
    let cache = &model["cache"];
    let (bytes, whole) = (cache["bytes"].as_f64()?, cache["f16_bytes"].as_f64()?);
    Some([
        super::size(bytes as usize),
        format!("{:.1} %", 100.0 * bytes / whole),
    ])
}

/// The cells of a variant; one that failed has none but its name.
fn cells(row: &Row, cached: bool) -> Vec<String> {
    let name = row.name.clone();
    let Some(report) = row.report() else {
        return vec![name];
    };
    let (before, after) = (&report["before"], &report["after"]);
    // A cache policy takes none.
    let seconds = |what: &str| report[what].as_f64().unwrap_or(0.0);
    let bytes = |side: &Value| side["bytes"].as_f64().unwrap_or(f64::NAN);
    let mut cells = vec![
        name,
        number(&after["perplexity"]),
        number(&after["standard_error"]),
        number(&after["kl"]["mean"]),
        format!(
            "{:.1} %",
            100.0 * after["kl"]["same_top"].as_f64().unwrap_or(f64::NAN)
        ),
        super::size(bytes(after) as usize),
        format!("{:.3}", bytes(after) / bytes(before)),
        bits(after),
    ];
    cells.extend(of_cache(after).filter(|_| cached).into_iter().flatten());
    let seconds = seconds("calibrate_seconds") + seconds("compress_seconds");
    cells.push(format!("{seconds:.1} s"));
    cells
}

/// Bits per weight of the blocks.
fn bits(model: &Value) -> String {
    block_bits(model).map_or_else(String::new, |bits| format!("{bits:.2}"))
}

/// A figure, or an empty cell.
fn number(value: &Value) -> String {
    value.as_f64().map(figure).unwrap_or_default()
}

impl Row {
    /// The figures, if there are any.
    pub fn report(&self) -> Option<&Value> {
        match &self.outcome {
            VariantOutcome::Report(report) => Some(report),
            VariantOutcome::Error(_) => None,
        }
    }
}
