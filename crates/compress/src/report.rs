//! Reports: figures for programs, tables for people.
//!
//! `report/run.rs` has those of a run, `report/comparison.rs` those of a comparison, `report/markdown.rs` those of a comparison
//! that was kept; what all verbs share is here.

pub mod columns;
pub mod comparison;
pub mod markdown;
pub mod record;
pub mod run;
mod table;

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Result;
use bytesize::ByteSize;
use comfy_table::Table;
use compress_checkpoint::Card;
use compress_evaluate::{Divergence, Needles, Perplexity};

use crate::{loaded::CacheReport, scoring::ModelReport};

pub use table::{fitted, plain, worded};

/// In place of the time per new token of a streamed model, which would be that of loading the whole model for each.
const NOT_MEASURED: &str = "not measured: block by block";

/// Prints a result. A reader that has seen enough and closed the pipe is no error.
pub fn print(text: impl Display) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Two models side by side, the second with its divergence from the first, and the ratio of their figures.
pub fn before_and_after(before: &ModelReport, after: &ModelReport) -> Table {
    let ratio = |before: f64, after: f64| format!("×{:.3}", after / before);
    let mut table = plain(["", "before", "after", ""]);
    let mut row = |name: &str, before: String, after: String, ratio: String| {
        table.add_row([name.to_owned(), before, after, ratio]);
    };
    row(
        "bytes",
        size(before.bytes),
        size(after.bytes),
        ratio(before.bytes as f64, after.bytes as f64),
    );
    row(
        "parameters",
        grouped(before.parameters),
        grouped(after.parameters),
        ratio(before.parameters as f64, after.parameters as f64),
    );
    let (b, a) = (&before.score, &after.score);
    let perplexity = [b.perplexity, a.perplexity];
    let [from, to] = perplexity.map(figure);
    row("perplexity", from, to, ratio(perplexity[0], perplexity[1]));
    if let Some(kl) = after.kl {
        // In most tables the first model is the original, without divergence from itself: the column stays empty.
        let mut both = |name: &str, of: &dyn Fn(Divergence) -> String| {
            let before = before.kl.map_or_else(String::new, of);
            row(name, before, of(kl), String::new());
        };
        both("KL mean", &|kl| figure(kl.mean));
        both("KL median", &|kl| figure(kl.median));
        both("KL 99 %", &|kl| figure(kl.p99));
        both("KL max", &|kl| figure(kl.max));
        both("same top token", &|kl| {
            format!("{:.1} %", 100.0 * kl.same_top)
        });
    }
    let speed = |score: &Perplexity| format!("{:.0}", score.tokens_per_second);
    row(
        "tokens/s scored",
        speed(b),
        speed(a),
        ratio(b.tokens_per_second, a.tokens_per_second),
    );
    table.add_rows(running_costs(before, after));
    table
}

/// What two models cost to run, and the ratio of it: their caches, and their times, which are compared only where both
/// were whole in memory.
fn running_costs(before: &ModelReport, after: &ModelReport) -> Vec<[String; 4]> {
    let ratio = |before: f64, after: f64| format!("×{:.3}", after / before);
    let mut rows = Vec::new();
    if let (Some(b), Some(a)) = (before.device_bytes, after.device_bytes) {
        let ratio = ratio(b as f64, a as f64);
        rows.push(["on the GPU".into(), size(b), size(a), ratio]);
    }
    if let (Some(b), Some(a)) = (before.cache, after.cache) {
        let ratio = ratio(b.bytes as f64, a.bytes as f64);
        rows.push([
            "cache of a window".into(),
            size(b.bytes),
            size(a.bytes),
            ratio,
        ]);
        rows.push(["of that in f16".into(), share(b), share(a), String::new()]);
    }
    if let (Some(b), Some(a)) = (before.latency, after.latency) {
        let ms = |time: f64| format!("{time:.2} ms");
        if before.cache.is_some() {
            let ratio = ratio(b.prompt_ms, a.prompt_ms);
            let what = format!("prompt of {}", b.prompt);
            rows.push([what, ms(b.prompt_ms), ms(a.prompt_ms), ratio]);
        }
        let ratio = ratio(b.token_ms, a.token_ms);
        rows.push([
            "per new token".into(),
            ms(b.token_ms),
            ms(a.token_ms),
            ratio,
        ]);
    } else if before.streamed || after.streamed {
        let not = || NOT_MEASURED.to_owned();
        rows.push(["per new token".into(), not(), not(), String::new()]);
    }
    rows
}

/// One model by itself, with its divergence where it was measured beside an original.
pub fn single(model: &ModelReport) -> Table {
    let mut table = plain(["", ""]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("perplexity", figure(model.score.perplexity));
    row("tokens scored", grouped(model.score.tokens));
    row("bytes", size(model.bytes));
    row("parameters", grouped(model.parameters));
    row("tokens/s", format!("{:.0}", model.score.tokens_per_second));
    if let Some(bytes) = model.device_bytes {
        row("on the GPU", size(bytes));
    }
    if let Some(kl) = model.kl {
        row("KL mean", figure(kl.mean));
        row("KL median", figure(kl.median));
        row("KL 99 %", figure(kl.p99));
        row("KL max", figure(kl.max));
        row("same top token", format!("{:.1} %", 100.0 * kl.same_top));
    }
    if let Some(cache) = model.cache {
        row("cache of a window", size(cache.bytes));
        row("of that in f16", share(cache));
    }
    if let Some(Needles { asked, found, .. }) = model.needles {
        row("needles found", format!("{found} of {asked}"));
    }
    if let Some(latency) = model.latency.filter(|_| model.cache.is_some()) {
        let what = format!("prompt of {}", latency.prompt);
        row(&what, format!("{:.2} ms", latency.prompt_ms));
    }
    if let Some(latency) = model.latency {
        row("per new token", format!("{:.2} ms", latency.token_ms));
    } else if model.streamed {
        row("per new token", NOT_MEASURED.to_owned());
    }
    table
}

/// A cache's bytes beside those of a whole one in 16-bit floats.
fn share(cache: CacheReport) -> String {
    format!(
        "{:.1} %",
        100.0 * cache.bytes as f64 / cache.f16_bytes as f64
    )
}

/// A number with five significant digits, and at most six decimals.
pub fn figure(x: f64) -> String {
    // 0 has no logarithm, and counts as a small number here.
    let digits = (4 - x.abs().max(1e-9).log10().floor() as i32).clamp(0, 6);
    format!("{x:.0$}", digits as usize)
}

/// Bytes, rounded, with their unit.
pub fn size(bytes: usize) -> String {
    ByteSize(bytes as u64).display().si().to_string()
}

/// 1234567 as 1,234,567.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let lead = digits.len() % 3;
    digits
        .char_indices()
        .fold(String::new(), |mut text, (i, digit)| {
            if i > 0 && i % 3 == lead {
                text.push(',');
            }
            text.push(digit);
            text
        })
}

/// The model card of an output: its name, a table of figures, and the command that made it.
pub fn card(output: &Path, table: String) -> Card {
    let name = output.file_name().unwrap_or_default();
    Card {
        name: name.to_string_lossy().into_owned(),
        table,
        command: command(),
    }
}

/// The command line of this run, as one would type it.
pub fn command() -> String {
    // Called `compress`, by whatever path it was started.
    std::env::args_os()
        .skip(1)
        .fold("compress".to_owned(), |line, word| {
            line + " " + &quoted(&word.to_string_lossy())
        })
}

/// A word as a shell takes it, in quotes only where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_five_significant_digits() {
        for (x, text) in [
            (4.05012, "4.0501"),
            (172.2689, "172.27"),
            (1524.63, "1524.6"),
            (0.012_345_6, "0.012346"),
        ] {
            assert_eq!(figure(x), text);
        }
    }

    #[test]
    fn large_numbers_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (15_191_712, "15,191,712"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
