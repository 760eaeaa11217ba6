//! `compress run METHOD MODEL -o OUT`: plan, compress, write, and evaluate before and after.

use anyhow::Result;
use compress_calibrate::{Aim, Progress as _, Sequential};
use compress_checkpoint::{Card, Checkpoint, Edits, Layout, Output, Record, Writer};
use compress_core::{Method, Plan, Survey};
use serde_json::json;

use crate::{
    Outcome,
    args::{By, Running, With},
    evidence::{Bar, Evidence},
    interrupt,
    model::Opened,
    pipeline::{self, Compressed},
    report::{self, Measured},
    verbs::{
        evaluate::Prepared,
        plan::{foretell, to_compress},
    },
};

pub fn run(method: &By<Running>) -> Result<Outcome> {
    let done = perform(method)?;
    if method.job().planning.printing.json {
        report::print(done.json)?;
    } else {
        report::print(done.text)?;
    }
    Ok(done.outcome)
}

/// What is told of a run.
pub struct Told {
    /// To programs.
    pub json: serde_json::Value,
    /// To people.
    text: String,
    /// Whether promises were kept.
    pub outcome: Outcome,
}

/// Does all of it but the telling.
pub fn perform(method: &By<Running>) -> Result<Told> {
    match method {
        By::Svd(With { own, job }) => compress(&own.method(), job),
        By::Fwsvd(With { own, job }) => compress(&own.method(), job),
        By::Welore(With { own, job }) => compress(&own.method(), job),
        By::Lorc(With { own, job }) => compress(&own.method(), job),
    }
}

fn compress<M: Method>(method: &M, arguments: &Running) -> Result<Told> {
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
    let context = arguments.text.ctx;
    let foresight = Evidence::to_plan(method, planning, context, &model)?;
    let survey = foresight.inform(survey);
    let plan = pipeline::plan(method, &survey, &model, planning)?;
    let edits = pipeline::edits(plan.forms(), &planning.form);
    let layout = Layout::new(&model.checkpoint, &edits)?;
    let memory = to_compress(method, &model.checkpoint, &survey, &plan)?;
    foretell(&model.checkpoint, &layout, &survey, &plan, memory, planning)?;
    let evidence = Evidence::to_compress(method, &plan, planning, context, &model)?;
    let survey = evidence.inform(survey);
    let task = Task {
        method,
        arguments,
        model: &model,
        survey,
        plan: &plan,
        evidence: &evidence,
        calibrate_seconds: foresight.seconds() + evidence.seconds(),
    };
    let writer = Writer::begin(&model.checkpoint, &layout, output, &task.describe()?)?;
    interrupt::work_directory(Some(writer.work()));
    let done = task.carry_out(&writer, text);
    let done = match done {
        Ok(done) => done,
        Err(error) => return Err(give_up(error, writer)),
    };
    writer.finish(&done.record(method)?, &done.card())?;
    interrupt::work_directory(None);
    Ok(Told {
        json: done.json(method.name())?,
        text: done.text(method.name()),
        outcome: done.outcome(layout.bytes()),
    })
}

/// What is to be done, once all of it is known.
struct Task<'a, M: Method> {
    method: &'a M,
    arguments: &'a Running,
    model: &'a Opened,
    survey: Survey<'a>,
    plan: &'a Plan<M::Step>,
    evidence: &'a Evidence,
    calibrate_seconds: f64,
}

impl<'a, M: Method> Task<'a, M> {
    fn carry_out(&self, writer: &Writer<'_>, text: Option<Prepared>) -> Result<Done<'a, M::Step>> {
        let compressed = self.compress(writer)?;
        writer.write_others()?;
        let written = Checkpoint::open(&writer.work())?;
        let quiet = self.arguments.planning.printing.quiet;
        let measure = |text: &Prepared| measure(text, &self.model.checkpoint, &written, quiet);
        let measured = text.as_ref().map(measure).transpose()?;
        Ok(Done {
            arguments: self.arguments,
            model: self.model,
            plan: self.plan,
            calibration: self.evidence.about(),
            calibrate_seconds: self.calibrate_seconds,
            aim: self.aim(),
            compressed,
            text,
            measured,
            bytes: written.file_bytes(),
        })
    }

    /// All at once, or block after block.
    fn compress(&self, writer: &Writer<'_>) -> Result<Compressed> {
        let (method, plan, survey) = (self.method, self.plan, &self.survey);
        let planning = &self.arguments.planning;
        let (Some(windows), Some(aim)) = (self.evidence.windows(), self.aim()) else {
            return pipeline::compress(method, plan, survey, writer, planning);
        };
        let bar = Bar::new(planning.printing.quiet);
        let model = &self.model.checkpoint;
        let aim = (aim, plan.tokens());
        let walks = Sequential::begin(model, windows, aim, &writer.work(), &bar)?;
        let done = pipeline::compress_in_sequence(method, plan, survey, writer, planning, walks)?;
        bar.finish();
        Ok(done)
    }

    /// Everything that decides the bytes of the output, as text.
    fn describe(&self) -> Result<String> {
        let form = &self.arguments.planning.form;
        let task = json!({
            "method": self.method.name(),
            "options": serde_json::to_value(self.method)?,
            "evidence": self.evidence.key(),
            "aim": self.aim(),
            "plan": self.plan,
            "dtype": form.dtype,
            "dense": form.dense,
            "tables": form.tables(),
            "factors": form.factors(),
        });
        Ok(task.to_string())
    }

    fn aim(&self) -> Option<Aim> {
        let calibration = &self.arguments.planning.calibration;
        calibration.aim(self.method.needs())
    }
}

/// After a failure to write the work directory stays, so that the run can go on; any other failure
/// would only come again.
pub fn give_up(error: anyhow::Error, writer: Writer<'_>) -> anyhow::Error {
    let failed_to_write = |cause: &(dyn std::error::Error + 'static)| cause.is::<std::io::Error>();
    if error.chain().any(failed_to_write) {
        let work = writer.work();
        return error.context(format!(
            "{} stays, and the same command goes on from there",
            work.display()
        ));
    }
    match writer.abandon() {
        Ok(()) => error,
        Err(second) => error.context(second),
    }
}

/// Before and after. A GGUF source is compared at the format in which the output is written.
fn measure(
    text: &Prepared,
    source: &Checkpoint,
    written: &Checkpoint,
    quiet: bool,
) -> Result<(Measured, Measured)> {
    let (mut before, after) = text.compare(source, written, quiet)?;
    if source.is_gguf() {
        let edits = Edits {
            format: Some(written.format()),
            ..Edits::default()
        };
        before.bytes = Layout::new(source, &edits)?.bytes();
    }
    Ok((before, after))
}

/// A run that has been done, to be told of.
struct Done<'a, S: compress_core::Step> {
    arguments: &'a Running,
    model: &'a Opened,
    plan: &'a Plan<S>,
    calibration: Option<serde_json::Value>,
    calibrate_seconds: f64,
    aim: Option<Aim>,
    compressed: Compressed,
    text: Option<Prepared>,
    measured: Option<(Measured, Measured)>,
    bytes: usize,
}

impl<S: compress_core::Step> Done<'_, S> {
    fn json(&self, method: &str) -> Result<serde_json::Value> {
        let mut json = json!({
            "method": method,
            "model": self.model.name,
            "output": self.arguments.output,
            "lrc": self.plan.steps.len(),
            "n_lrc": self.plan.whole.len(),
            "keep": self.plan.keep,
            "source_bytes": self.model.checkpoint.file_bytes(),
            "bytes": self.bytes,
            "calibration": self.calibration,
            "aim": self.aim,
            "calibrate_seconds": self.calibrate_seconds,
            "compress_seconds": self.compressed.seconds,
        });
        if let (Some(text), Some((before, after))) = (&self.text, &self.measured) {
            json["text"] = text.describe();
            json["before"] = serde_json::to_value(before)?;
            json["after"] = serde_json::to_value(after)?;
        }
        Ok(json)
    }

    fn record<M: Method>(&self, method: &M) -> Result<Record> {
        let format = self
            .arguments
            .planning
            .form
            .dtype
            .unwrap_or(self.model.checkpoint.format());
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: method.name().into(),
            options: serde_json::to_value(method)?,
            calibration: self.calibration.clone(),
            aim: serde_json::to_value(self.aim)?,
            source: self.plan.source.clone(),
            format: format.to_string(),
            dense: self.arguments.planning.form.dense,
            plan: serde_json::to_value(self.plan)?,
            errors: serde_json::to_value(&self.compressed.errors)?,
            report: if self.measured.is_some() {
                Some(self.json(method.name())?)
            } else {
                None
            },
            before: Record::of(&self.model.checkpoint),
        })
    }

    fn card(&self) -> Card {
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
        report::card(&self.arguments.output, table)
    }

    fn text(&self, method: &str) -> String {
        let errors = &self.compressed.errors;
        let mut lines = vec![format!(
            "{}: {} by {method}, {} weights in {:.1} s, mean relative squared error {}",
            self.arguments.output.display(),
            self.model.name,
            errors.len(),
            self.compressed.seconds,
            report::figure(errors.values().sum::<f64>() / errors.len().max(1) as f64),
        )];
        if let Some(calibration) = &self.calibration {
            lines.push(format!(
                "calibrated on {}, {} windows, ctx {}{}",
                calibration["text"].as_str().unwrap_or_default(),
                calibration["windows"],
                calibration["context"],
                match self.aim {
                    None => ", one shot",
                    Some(Aim::Inputs) => ", sequential",
                    Some(Aim::Original) => ", refit",
                },
            ));
        }
        let (Some(text), Some((before, after))) = (&self.text, &self.measured) else {
            lines.push(format!(
                "{} of weights, not evaluated",
                report::size(self.bytes)
            ));
            return lines.join("\n");
        };
        lines.push(text.title());
        lines.push(report::comparison(before, after).to_string());
        if self.model.checkpoint.is_gguf() {
            let file = report::size(self.model.checkpoint.file_bytes());
            let note = "`before` has the bytes of the output's number format; the GGUF file itself";
            lines.push(format!("{note} has {file}"));
        }
        lines.join("\n")
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
