//! A recorded comparison as Markdown: the command that made it, a table, and its picture.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::{
    columns::{COLUMNS, Column},
    comparison::{Row, VariantOutcome},
    record::Record,
};

/// What a marker in a document asks for.
pub struct Request {
    /// The columns; none are all that have anything to say.
    pub columns: Vec<&'static Column>,
    /// A picture beside the document.
    pub plot: Option<String>,
    /// Whether the command stands above the table.
    pub command: bool,
}

/// The text that stands between the markers.
pub fn block(record: &Record, request: &Request) -> Result<String> {
    // An empty line between a comment and a table, for the table to be one.
    let mut text = String::from("\n");
    if request.command {
        let _ = write!(
            text,
            "{}\n\n```sh\n{}\n```\n\n",
            conditions(record),
            wrapped(&record.command)
        );
    }
    text += &table(record, &request.columns)?;
    if let Some(plot) = &request.plot {
        let _ = write!(
            text,
            "\n![perplexity against size, with the frontier]({plot})\n"
        );
    }
    text.push('\n');
    Ok(text)
}

/// What all figures of a record have in common.
fn conditions(record: &Record) -> String {
    let (text, machine) = (&record.text, &record.machine);
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let split = text["split"].as_u64();
    let prompt = split.map_or_else(String::new, |split| {
        format!(", of which {split} are a prompt")
    });
    let bos = if text["bos"] == true {
        "BOS first"
    } else {
        "no BOS"
    };
    let mut parts = vec![format!(
        "{} windows of {} tokens{prompt}, {bos}, on {}",
        text["windows"],
        text["context"],
        word(&text["device"])
    )];
    if !machine.is_null() {
        let (processor, made_by) = (word(&machine["processor"]), word(&machine["made_by"]));
        parts.push(format!(
            "{processor}, {} threads, {made_by}",
            machine["threads"]
        ));
    }
    format!("{}:", parts.join("; "))
}

/// The table, a row for the original and for each variant.
fn table(record: &Record, columns: &[&Column]) -> Result<String> {
    let says = |column: &&Column| {
        let reports = record.variants.iter().filter_map(Row::report);
        reports
            .into_iter()
            .any(|report| !column.of_variant(report).is_empty())
    };
    let columns: Vec<&Column> = if columns.is_empty() {
        COLUMNS.iter().filter(says).collect()
    } else {
        columns.to_vec()
    };
    let cells = |of: &dyn Fn(&Column) -> String| {
        columns.iter().map(|column| of(column)).collect::<Vec<_>>()
    };
    // Variants that all failed leave no column with figures: their errors are one.
    let header = |of: Vec<String>, instead: &str| {
        if of.is_empty() {
            vec![instead.to_owned()]
        } else {
            of
        }
    };
    let width = columns.len().max(1);
    let names = header(cells(&|column| column.header(record)), "result");
    let mut text = row("", &names);
    text += &row("---", &vec!["---:".to_owned(); width]);
    let original = header(cells(&|column| column.of_original(record)), "");
    text += &row("original", &original);
    for variant in &record.variants {
        let name = format!("`{}`", variant.command);
        match &variant.outcome {
            VariantOutcome::Report(report) => {
                text += &row(&name, &cells(&|column| column.of_variant(report)));
            }
            VariantOutcome::Error(error) => {
                ensure!(
                    !error.contains('\n'),
                    "the error of {name} has several lines"
                );
                let mut cells = vec![String::new(); width];
                cells[0].clone_from(error);
                text += &row(&name, &cells);
            }
        }
    }
    Ok(text)
}

/// A row of a Markdown table.
fn row(first: &str, others: &[String]) -> String {
    let escaped = others.iter().map(|cell| cell.replace('|', "\\|"));
    format!(
        "| {first} | {} |\n",
        escaped.collect::<Vec<_>>().join(" | ")
    )
}

/// A command on lines of at most 110 letters, as a shell takes it; an option and its value stay together.
fn wrapped(command: &str) -> String {
    let mut lines = vec![String::new()];
    for (index, option) in command.split(" -").enumerate() {
        let option = if index > 0 {
            format!("-{option}")
        } else {
            option.to_owned()
        };
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = option,
            Some(line) if line.len() + option.len() < 110 => line.extend([" ", option.as_str()]),
            _ => lines.push(format!("    {option}")),
        }
    }
    lines.join(" \\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_broken_between_options() {
        let value = "x".repeat(100);
        let command = format!("compress compare M --text {value} --ctx 8 -q");
        let lines = format!("compress compare M \\\n    --text {value} \\\n    --ctx 8 -q");
        assert_eq!(wrapped(&command), lines);
    }
}
