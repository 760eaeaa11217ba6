//! Reports of a run: JSON, text, and the files beside the output (record and model card).
//!
//! Record and card are made twice: when the model is finished, and again when it has been run.

use anyhow::Result;
use compress_calibrate::RefitTarget;
use compress_checkpoint::{Card, Record};
use compress_core::{Method, Plan, Step};
use serde_json::{Value, json};

use crate::{
    Outcome,
    carry_out::Compressed,
    job::{Running, Target},
    model::Opened,
    pipeline,
    scoring::{ModelReport, ScoringText},
};

/// The final report, to be printed.
pub struct RunReport {
    /// To programs.
    pub json: Value,
    /// To people.
    pub text: String,
    /// Whether promises were kept.
    pub outcome: Outcome,
}

/// A run that has been done, to be told of.
pub struct FinishedRun<'a, S: Step> {
    /// The run as it was asked for.
    pub job: &'a Running,
    /// The source.
    pub model: &'a Opened,
    /// The steps that were carried out.
    pub plan: &'a Plan<S>,
    /// What else decided the plan; none where options and budget say all.
    pub decided_by: Option<Value>,
    /// The text that was calibrated on; none where nothing was measured.
    pub calibration: Option<Value>,
    /// How long measuring took before compressing.
    pub calibrate_seconds: f64,
    /// The refit target; none where weights were compressed as they are in the original.
    pub refit: Option<RefitTarget>,
    /// Errors of the weights, and the time.
    pub compressed: Compressed,
    /// The most memory that was taken until then, in bytes, where the system tells.
    pub peak: Option<usize>,
    /// The text, and both models' figures on it; none until they were run, if they are.
    pub measured: Option<(ScoringText, (ModelReport, ModelReport))>,
    /// Bytes of the weight files as they were written.
    pub bytes: usize,
}

impl<S: Step> FinishedRun<'_, S> {
    /// All that is printed; `promised` is the size in bytes that the plan foretold.
    pub fn report(&self, method: &str, promised: usize) -> Result<RunReport> {
        Ok(RunReport {
            json: self.json(method)?,
            text: self.text(method),
            outcome: self.outcome(promised),
        })
    }

    /// For programs.
    fn json(&self, method: &str) -> Result<Value> {
        let mut json = json!({
            "method": method,
            "model": self.model.name,
            "output": self.job.output.to_string_lossy(),
            "lrc": self.plan.forms().len(),
            "n_lrc": self.plan.whole.len(),
            "keep": self.plan.keep,
            "source_bytes": self.model.checkpoint.file_bytes(),
            "bytes": self.bytes,
            "calibration": self.calibration,
            "aim": self.refit,
            "calibrate_seconds": self.calibrate_seconds,
            "compress_seconds": self.compressed.seconds,
            "peak_bytes": self.peak,
        });
        if let Some(decided_by) = &self.decided_by {
            json["decided_by"] = decided_by.clone();
        }
        if let Some((text, (before, after))) = &self.measured {
            json["text"] = text.describe();
            json["before"] = serde_json::to_value(before)?;
            json["after"] = serde_json::to_value(after)?;
        }
        Ok(json)
    }

    /// The record in the output, `compression.json`: all that it was made by, so that it can be made again.
    pub fn record<M: Method>(&self, method: &M) -> Result<Record> {
        let format = self
            .job
            .planning
            .form
            .dtype
            .unwrap_or(self.model.checkpoint.format());
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: method.name().into(),
            options: pipeline::options(method, &self.job.planning.target)?,
            calibration: self.calibration.clone(),
            refit: serde_json::to_value(self.refit)?,
            source: self.plan.source.clone(),
            format: format.to_string(),
            dense: self.job.planning.form.dense,
            plan: serde_json::to_value(self.plan)?,
            decided_by: self.decided_by.clone(),
            errors: serde_json::to_value(&self.compressed.errors)?,
            report: if self.measured.is_some() {
                Some(self.json(method.name())?)
            } else {
                None
            },
            before: Record::of(&self.model.checkpoint),
        })
    }

    /// The model card of the output.
    pub fn card(&self) -> Card {
        let table = self.measured.as_ref();
        let table = table.map_or_else(String::new, |(text, (before, after))| {
            format!(
                "Measured on {}:\n\n{}",
                text.title(),
                super::before_and_after(before, after)
            )
        });
        super::card(&self.job.output, table)
    }

    /// For people.
    fn text(&self, method: &str) -> String {
        let errors = &self.compressed.errors;
        let mut lines = vec![format!(
            "{}: {} by {method}, {} weights in {:.1} s, mean relative squared error {}",
            self.job.output.display(),
            self.model.name,
            errors.len(),
            self.compressed.seconds,
            // A plan may have no steps, and then no errors.
            super::figure(errors.values().sum::<f64>() / errors.len().max(1) as f64),
        )];
        if let Some(calibration) = &self.calibration {
            lines.push(format!(
                "calibrated on {}, {} windows, ctx {}{}",
                calibration["text"].as_str().unwrap_or_default(),
                calibration["windows"],
                calibration["context"],
                match self.refit {
                    None => ", one shot",
                    Some(RefitTarget::Inputs) => ", sequential",
                    Some(RefitTarget::Original) => ", refit",
                },
            ));
        }
        if let Some(decided_by) = &self.decided_by {
            lines.push(format!("the plan was decided by {decided_by}"));
        }
        let Some((text, (before, after))) = &self.measured else {
            lines.push(format!(
                "{} of weights, not evaluated",
                super::size(self.bytes)
            ));
            return lines.join("\n");
        };
        lines.push(text.title());
        lines.push(super::before_and_after(before, after).to_string());
        // The figure in the table is not that of the file that was given, and is explained.
        if self.model.checkpoint.is_gguf() {
            let file = super::size(self.model.checkpoint.file_bytes());
            let note = "`before` has the bytes of the output's number format; the GGUF file itself";
            lines.push(format!("{note} has {file}"));
        }
        lines.join("\n")
    }

    /// Whether the output has the size that the plan promised, to 1 %, and no more than was asked for. Tells of it
    /// where it has not.
    fn outcome(&self, promised: usize) -> Outcome {
        // A size that was asked for is a limit; the plan's own is a prediction.
        let limit = match self.job.planning.target {
            Target::Size(size) => Some(size.as_u64() as usize),
            _ => None,
        };
        if self.bytes.abs_diff(promised) * 100 > promised
            || limit.is_some_and(|limit| self.bytes > limit)
        {
            tell!(
                "error: the weight files have {} bytes, but {promised} were promised",
                self.bytes
            );
            Outcome::Broken
        } else {
            Outcome::Kept
        }
    }
}
