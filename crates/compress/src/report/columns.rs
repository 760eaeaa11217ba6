//! The columns that a table of a recorded comparison can have.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{figure, record::Record};
use crate::plot::comparison::block_bits;

/// A column: what it is called in a marker, its header, and what it says of a model and its report.
pub struct Column {
    /// Its name in a marker.
    pub name: &'static str,
    /// Its header; `{}` stands for the text's name.
    header: &'static str,
    /// The cell of a model. The report is that of the variant; the original has none of its own.
    cell: fn(&Value, Option<&Value>) -> Option<String>,
    /// Whether it is of the second text.
    second: bool,
}

/// All of them, in the order in which a table has them.
pub static COLUMNS: [Column; 12] = [
    column("disk", "MB on disk", |model, _| megabytes(&model["bytes"])),
    column("bits", "bits per block weight", |model, _| {
        Some(format!("{:.2}", block_bits(model)?))
    }),
    column("perplexity", "perplexity, {}", |model, _| perplexity(model)),
    column("kl", "KL mean", |model, _| kl(model)),
    second("also-perplexity", "perplexity, {}", |model, _| {
        perplexity(model)
    }),
    second("also-kl", "KL mean there", |model, _| kl(model)),
    column("cache", "MB of a window's cache", |model, _| {
        megabytes(&model["cache"]["bytes"])
    }),
    column("share", "of a whole one in f16", |model, _| {
        let cache = &model["cache"];
        let share = cache["bytes"].as_f64()? / cache["f16_bytes"].as_f64()?;
        Some(format!("{:.1} %", 100.0 * share))
    }),
    column("speed", "tokens/s scored", |model, _| {
        Some(format!("{:.0}", model["tokens_per_second"].as_f64()?))
    }),
    column("latency", "ms per new token", |model, _| {
        Some(format!("{:.2}", model["latency"]["token_ms"].as_f64()?))
    }),
    column("seconds", "seconds to compress", |_, report| {
        let seconds = |key: &str| report?[key].as_f64();
        let all = seconds("calibrate_seconds")? + seconds("compress_seconds")?;
        Some(format!("{all:.1}"))
    }),
    column("memory", "peak memory of that, MB", |_, report| {
        megabytes(&report?["peak_bytes"])
    }),
];

/// A column of the first text, or of no text.
const fn column(
    name: &'static str,
    header: &'static str,
    cell: fn(&Value, Option<&Value>) -> Option<String>,
) -> Column {
    Column {
        name,
        header,
        cell,
        second: false,
    }
}

/// A column of the second text.
const fn second(
    name: &'static str,
    header: &'static str,
    cell: fn(&Value, Option<&Value>) -> Option<String>,
) -> Column {
    Column {
        name,
        header,
        cell,
        second: true,
    }
}

/// A perplexity with its standard error, where it has one, in as many digits as that.
fn perplexity(model: &Value) -> Option<String> {
    let text = figure(model["perplexity"].as_f64()?);
    let error = model["standard_error"].as_f64();
    Some(error.map_or_else(
        || text.clone(),
        |error| format!("{text} ± {}", short(error)),
    ))
}

/// A number with two significant digits.
fn short(x: f64) -> String {
    let digits = (1 - x.abs().max(1e-9).log10().floor() as i32).clamp(0, 6);
    format!("{x:.0$}", digits as usize)
}

/// The mean divergence.
fn kl(model: &Value) -> Option<String> {
    model["kl"]["mean"].as_f64().map(|kl| format!("{kl:.4}"))
}

/// Bytes in millions.
fn megabytes(bytes: &Value) -> Option<String> {
    Some(format!("{:.1}", bytes.as_f64()? / 1e6))
}

impl Column {
    /// The column that a marker names.
    pub fn named(name: &str) -> Result<&'static Self> {
        let known = || COLUMNS.each_ref().map(|column| column.name).join(", ");
        let found = COLUMNS.iter().find(|column| column.name == name);
        found.with_context(|| format!("`{name}` is no column; there are {}", known()))
    }

    /// Its header in the table of a record.
    pub fn header(&self, record: &Record) -> String {
        let first = record.first().unwrap_or(&Value::Null);
        let text = if self.second {
            &first["also"]["text"]
        } else {
            &record.text
        };
        let name = text["name"].as_str().unwrap_or_default();
        let name = std::path::Path::new(name).file_stem().unwrap_or_default();
        self.header.replace("{}", &name.to_string_lossy())
    }

    /// What it says of the original.
    pub fn of_original(&self, record: &Record) -> String {
        let also = record.first().map(|report| &report["also"]["before"]);
        let model = if self.second {
            also
        } else {
            Some(&record.original)
        };
        let cell = model.and_then(|model| (self.cell)(model, None));
        cell.unwrap_or_default()
    }

    /// What it says of a variant.
    pub fn of_variant(&self, report: &Value) -> String {
        let model = if self.second {
            &report["also"]["after"]
        } else {
            &report["after"]
        };
        (self.cell)(model, Some(report)).unwrap_or_default()
    }
}
