//! `compress run METHOD MODEL -o OUT`: plan, compress, write, and evaluate before and after.

use std::collections::BTreeMap;

use anyhow::Result;
use compress_checkpoint::{Card, Checkpoint, Layout, Output, Record, Writer};
use compress_core::{Method, Plan, Survey};
use compress_svd::Svd;
use serde_json::json;

use crate::{
    Outcome,
    args::{RunMethod, Running},
    interrupt,
    model::Opened,
    pipeline::{self, Compressed},
    report::{self, Measured},
    verbs::{evaluate::Prepared, plan::foretell},
};

pub fn run(method: RunMethod) -> Result<Outcome> {
    match method {
        RunMethod::Svd(arguments) => compress(&Svd, &arguments),
    }
}

fn compress<M: Method>(method: &M, arguments: &Running) -> Result<Outcome> {
    let planning = &arguments.planning;
    let quiet = planning.printing.quiet;
    let model = Opened::open(planning.model.name.as_deref(), quiet)?;
    let output = Output::new(&arguments.output, arguments.force, &model.checkpoint)?;
    // Whatever can be wrong with the text shows before the work, not after it.
    let text = if arguments.no_evaluate {
        None
    } else {
        Some(Prepared::new(&arguments.text, &model.checkpoint)?)
    };
    let selection = planning.sites.selection();
    let survey = Survey::new(&model.checkpoint, |site| selection.contains(site));
    let plan = pipeline::plan(method, &survey, &model, planning)?;
    let layout = Layout::new(
        &model.checkpoint,
        &pipeline::forms(&plan, &planning.form),
        planning.form.dtype,
    )?;
    if !quiet {
        foretell(&model.checkpoint, &layout, &survey, plan.steps.len());
    }
    let task = task(method, &plan, arguments);
    interrupt::work_directory(Some(output.work()));
    let writer = Writer::begin(&model.checkpoint, &layout, output, &task)?;
    let compressed = pipeline::compress(method, &plan, &survey, &writer, planning)?;
    writer.write_others()?;
    let written = Checkpoint::open(&writer.work())?;
    let measured = text
        .as_ref()
        .map(|text| measure(text, &model.checkpoint, &written, quiet))
        .transpose()?;
    let finished = Finished {
        arguments,
        model: &model,
        plan: &plan,
        compressed,
        text,
        measured,
        bytes: written.file_bytes(),
    };
    writer.finish(&finished.record(method.name())?, &finished.card())?;
    interrupt::work_directory(None);
    finished.print(method.name())?;
    Ok(finished.outcome(layout.bytes()))
}

/// Everything that decides the bytes of the output, as text.
fn task<M: Method>(method: &M, plan: &Plan<M::Step>, arguments: &Running) -> String {
    let form = &arguments.planning.form;
    let task =
        json!({ "method": method.name(), "plan": plan, "dtype": form.dtype, "dense": form.dense });
    task.to_string()
}

/// Before and after. A GGUF source is compared at the format in which the output is written.
fn measure(
    text: &Prepared,
    source: &Checkpoint,
    written: &Checkpoint,
    quiet: bool,
) -> Result<(Measured, Measured)> {
    let (before, after) = text.compare(source, written, quiet)?;
    let Some(mut before) = before else {
        anyhow::bail!("the original was not measured")
    };
    if source.is_gguf() {
        before.bytes = Layout::new(source, &BTreeMap::default(), Some(written.format()))?.bytes();
    }
    Ok((before, after))
}

/// A run that has been done, to be told of.
struct Finished<'a, S: compress_core::Step> {
    arguments: &'a Running,
    model: &'a Opened,
    plan: &'a Plan<S>,
    compressed: Compressed,
    text: Option<Prepared>,
    measured: Option<(Measured, Measured)>,
    bytes: usize,
}

impl<S: compress_core::Step> Finished<'_, S> {
    fn json(&self, method: &str) -> Result<serde_json::Value> {
        let mut json = json!({
            "method": method,
            "model": self.model.name,
            "output": self.arguments.output,
            "keep": self.plan.keep,
            "source_bytes": self.model.checkpoint.file_bytes(),
            "bytes": self.bytes,
            "compress_seconds": self.compressed.seconds,
        });
        if let (Some(text), Some((before, after))) = (&self.text, &self.measured) {
            json["text"] = text.describe();
            json["before"] = serde_json::to_value(before)?;
            json["after"] = serde_json::to_value(after)?;
        }
        Ok(json)
    }

    fn record(&self, method: &str) -> Result<Record> {
        let format = self
            .arguments
            .planning
            .form
            .dtype
            .unwrap_or(self.model.checkpoint.format());
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: method.into(),
            source: self.plan.source.clone(),
            format: format.to_string(),
            dense: self.arguments.planning.form.dense,
            plan: serde_json::to_value(self.plan)?,
            errors: serde_json::to_value(&self.compressed.errors)?,
            report: if self.measured.is_some() {
                Some(self.json(method)?)
            } else {
                None
            },
        })
    }

    fn card(&self) -> Card {
        let name = self
            .arguments
            .output
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let table = match (&self.text, &self.measured) {
            (Some(text), Some((before, after))) => {
                format!(
                    "Measured on {}:\n\n{}",
                    text.title(),
                    report::comparison(before, after)
                )
            }
            _ => String::new(),
        };
        let command = std::env::args()
            .skip(1)
            .fold("compress".to_owned(), |line, word| line + " " + &word);
        Card {
            name,
            table,
            command,
        }
    }

    fn print(&self, method: &str) -> Result<()> {
        if self.arguments.planning.printing.json {
            println!("{}", self.json(method)?);
            return Ok(());
        }
        let mean = self.compressed.errors.values().sum::<f64>()
            / self.compressed.errors.len().max(1) as f64;
        println!(
            "{}: {} by {method}, {} weights in {:.1} s, mean relative squared error {}",
            self.arguments.output.display(),
            self.model.name,
            self.compressed.errors.len(),
            self.compressed.seconds,
            report::figure(mean),
        );
        match (&self.text, &self.measured) {
            (Some(text), Some((before, after))) => {
                println!("{}\n{}", text.title(), report::comparison(before, after));
                if self.model.checkpoint.is_gguf() {
                    let file = report::size(self.model.checkpoint.file_bytes());
                    println!(
                        "`before` is the model at the output's number format; the GGUF file itself has {file}"
                    );
                }
            }
            _ => println!("{} of weights, not evaluated", report::size(self.bytes)),
        }
        Ok(())
    }

    /// Whether the output has the size that the plan promised, to 1 %, and that was asked for.
    fn outcome(&self, promised: usize) -> Outcome {
        let limit = self
            .arguments
            .planning
            .target
            .size
            .map(|size| size.as_u64() as usize);
        if self.bytes.abs_diff(promised) * 100 > promised
            || limit.is_some_and(|limit| self.bytes > limit)
        {
            eprintln!(
                "error: the weight files have {} bytes, but {promised} were promised",
                self.bytes
            );
            Outcome::Broken
        } else {
            Outcome::Kept
        }
    }
}
