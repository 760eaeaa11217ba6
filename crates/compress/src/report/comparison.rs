//! Reports of a comparison: a line for each variant as it ends, and a table of all.
//!
//! A variant's figures are the JSON object of its run: what is printed here is what `run --json` prints.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::figure;

/// The result of a variant.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
        return super::print(json!({ "original": original, "text": text, "variants": rows }));
    }
    let mut table = super::plain([
        "variant",
        "perplexity",
        "KL mean",
        "same top",
        "bytes",
        "×",
        "seconds",
        "error",
    ]);
    // Without any figures there is nothing to say of the original, only errors.
    if let Some(report) = reports().next() {
        super::print(title(report))?;
        let before = &report["before"];
        table.add_row([
            "original".to_owned(),
            number(&before["perplexity"]),
            String::new(),
            String::new(),
            super::size(before["bytes"].as_u64().unwrap_or_default() as usize),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    for row in rows {
        table.add_row(cells(row));
    }
    super::print(table)
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

/// The cells of a variant; one that failed has its error and nothing else.
fn cells(row: &Row) -> [String; 8] {
    let name = row.name.clone();
    let Some(report) = row.report() else {
        let error = match &row.outcome {
            VariantOutcome::Error(error) => error.clone(),
            VariantOutcome::Report(_) => String::new(),
        };
        let empty = [const { String::new() }; 6];
        let [a, b, c, d, e, f] = empty;
        return [name, a, b, c, d, e, f, error];
    };
    let (before, after) = (&report["before"], &report["after"]);
    let seconds = |what: &str| report[what].as_f64().unwrap_or(f64::NAN);
    let bytes = |side: &Value| side["bytes"].as_f64().unwrap_or(f64::NAN);
    [
        name,
        number(&after["perplexity"]),
        number(&after["kl"]["mean"]),
        format!(
            "{:.1} %",
            100.0 * after["kl"]["same_top"].as_f64().unwrap_or(f64::NAN)
        ),
        super::size(bytes(after) as usize),
        format!("{:.3}", bytes(after) / bytes(before)),
        format!(
            "{:.1} s",
            seconds("calibrate_seconds") + seconds("compress_seconds")
        ),
        String::new(),
    ]
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
