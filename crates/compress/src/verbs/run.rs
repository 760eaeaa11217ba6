//! `compress run METHOD MODEL -o OUT`: plan, compress, write, and evaluate before and after.

use std::path::Path;

use anyhow::{Context as _, Result};
use compress_calibrate::{Aim, Behind, Progress as _, Sequential};
use compress_checkpoint::{
    Card, Checkpoint, Edits, Input, Layout, Output, Published, Record, Writer,
};
use compress_core::{Method, Plan, Survey, Tokens};
use serde_json::json;

use crate::{
    Outcome,
    args::{By, Planning, Running, With},
    carry_out::{Compressed, Work},
    evidence::{Bar, Evidence},
    interrupt,
    model::Opened,
    pipeline,
    report::{self, Measured},
    side,
    verbs::{
        evaluate::{Baseline, Prepared},
        plan::foretell,
    },
};

pub fn run(method: &By<Running>) -> Result<Outcome> {
    let done = perform(method, None)?;
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

/// Does all of it but the telling; an original that has been run already is not run again.
pub fn perform(method: &By<Running>, baseline: Option<&Baseline<'_>>) -> Result<Told> {
    match method {
        By::Svd(With { own, job }) => compress(&own.method(), job, baseline),
        By::Fwsvd(With { own, job }) => compress(&own.method(), job, baseline),
        By::Welore(With { own, job }) => compress(&own.method(), job, baseline),
        By::Lorc(With { own, job }) => compress(&own.method(), job, baseline),
    }
}

fn compress<M: Method>(
    method: &M,
    arguments: &Running,
    baseline: Option<&Baseline<'_>>,
) -> Result<Told> {
    let planning = &arguments.planning;
    let quiet = planning.printing.quiet;
    let model = Opened::open(planning.model.name.as_deref(), quiet)?;
    let inputs = inputs(arguments, &model);
    let output = Output::claim(&arguments.output, arguments.force, &inputs)?;
    side::check(planning.plot.as_deref(), &inputs, Some(&output))?;
    // Whatever can be wrong with the text shows before the work, not after it.
    let text = if let Some(baseline) = baseline {
        Some(baseline.text.clone())
    } else if arguments.no_evaluate {
        None
    } else {
        let memory = planning.resources.memory();
        let text = Prepared::new(&arguments.text, &model.checkpoint, memory)?;
        text.check_room(&model.checkpoint)?;
        Some(text)
    };
    let selection = planning.sites.selection();
    let survey = Survey::new(&model.checkpoint, |site| selection.contains(site));
    let context = arguments.text.ctx;
    let foresight = Evidence::to_plan(method, planning, context, &model)?;
    let survey = foresight.inform(survey);
    let plan = pipeline::plan(method, &survey, &model, planning)?;
    let edits = pipeline::edits(plan.forms(), &planning.form);
    let layout = Layout::new(&model.checkpoint, &edits)?;
    let both = (&model.checkpoint, &layout);
    let takes = foretell(method, &plan, &survey, both, (planning, context))?;
    let evidence = Evidence::to_compress(method, &plan, planning, context, &model)?;
    let survey = evidence.inform(survey);
    let survey = survey.storing_factors(planning.form.factors());
    let task = Task {
        method,
        arguments,
        model: &model,
        survey,
        plan: &plan,
        evidence: &evidence,
        side_by_side: takes.side_by_side,
        calibrate_seconds: foresight.seconds() + evidence.seconds(),
    };
    let description = task.describe()?;
    // Before the first file of it: an interrupt may come at any moment.
    interrupt::say(Some(goes_on(&output.work())));
    let writer = Writer::begin(&model.checkpoint, &layout, output, &description)?;
    let compressed = match task.compress(&writer) {
        Ok(compressed) => compressed,
        Err(error) => return Err(leave(error, writer)),
    };
    let mut done = task.done(compressed);
    let published = publish(writer, &done.record(method)?, &done.card())?;
    // The model is finished and in its place: nothing that goes wrong from here on takes it away.
    if let Some(text) = text {
        let measured = Checkpoint::open(published.path()).map_err(Into::into);
        let measured = measured.and_then(|written| {
            let source = &model.checkpoint;
            measure(&text, baseline, source, &written, quiet)
        });
        let measured = measured.with_context(|| not_evaluated(published.path()))?;
        done.measured = Some((text, measured));
        published.describe(&done.record(method)?, &done.card())?;
    }
    interrupt::say(None);
    let told = Told {
        json: done.json(method.name())?,
        text: done.text(method.name()),
        outcome: done.outcome(layout.bytes()),
    };
    evidence.let_go();
    foresight.let_go();
    Ok(told)
}

/// What the run reads, none of which it may replace.
fn inputs<'a>(arguments: &'a Running, model: &'a Opened) -> Vec<Input<'a>> {
    let Planning {
        target,
        calibration,
        ..
    } = &arguments.planning;
    let others = [
        &target.plan,
        &calibration.calibrate,
        &calibration.evidence,
        &arguments.text.file,
    ];
    let others = others.into_iter().flatten();
    let others = others.map(|path| Input::Other(path));
    model.inputs().chain(others).collect()
}

/// Gives a finished model its name. What an interrupt says is then another thing.
pub fn publish<'a>(writer: Writer<'a>, record: &Record, card: &Card) -> Result<Published<'a>> {
    let work = goes_on(writer.work());
    let published = writer.publish(record, card).with_context(|| work)?;
    interrupt::say(Some(not_evaluated(published.path())));
    Ok(published)
}

/// Of a work directory that stays.
pub fn goes_on(work: &Path) -> String {
    let work = work.display();
    format!("{work} stays, and the same command goes on from there")
}

/// Of a model that is finished, but was not run.
pub fn not_evaluated(output: &Path) -> String {
    let output = output.display();
    format!("{output} is finished, but was not evaluated: `compress evaluate {output}` does that")
}

/// After a failure: what there is to go on from stays.
pub fn leave(error: anyhow::Error, writer: Writer<'_>) -> anyhow::Error {
    let work = goes_on(writer.work());
    match writer.leave() {
        Ok(true) => error.context(work),
        Ok(false) => error,
        Err(second) => error.context(second),
    }
}

/// What is to be done, once all of it is known.
struct Task<'a, M: Method> {
    method: &'a M,
    arguments: &'a Running,
    model: &'a Opened,
    survey: Survey<'a>,
    plan: &'a Plan<M::Step>,
    evidence: &'a Evidence,
    /// Streams whose weights are compressed side by side.
    side_by_side: usize,
    calibrate_seconds: f64,
}

impl<'a, M: Method> Task<'a, M> {
    fn done(&self, (compressed, bytes): (Compressed, usize)) -> Done<'a, M::Step> {
        Done {
            arguments: self.arguments,
            model: self.model,
            plan: self.plan,
            calibration: self.evidence.about(),
            calibrate_seconds: self.calibrate_seconds,
            aim: self.aim(),
            compressed,
            measured: None,
            bytes,
        }
    }

    /// Writes all that the output consists of, and opens it as others will; how many bytes its weights have.
    fn compress(&self, writer: &Writer<'_>) -> Result<(Compressed, usize)> {
        // Before the weights: a walk behind compressed blocks reads the output as far as it is written.
        writer.write_others()?;
        let compressed = self.carry_out(writer)?;
        let written = Checkpoint::open(&writer.model())?;
        Ok((compressed, written.file_bytes()))
    }

    /// Compresses all at once, or block after block.
    fn carry_out(&self, writer: &Writer<'_>) -> Result<Compressed> {
        let planning = &self.arguments.planning;
        let work = Work {
            method: self.method,
            plan: self.plan,
            survey: &self.survey,
            writer,
            form: &planning.form,
            quiet: planning.printing.quiet,
        };
        let Some(windows) = self.evidence.to_walk() else {
            return work.at_once(self.side_by_side);
        };
        let aim = self.aim();
        let written = aim.map(|_| Checkpoint::open(&writer.model())).transpose()?;
        let behind = aim.zip(written.as_ref());
        let behind = behind.map(|(aim, written)| Behind { written, aim });
        let attended = self.plan.tokens() == Tokens::Attended;
        let bar = Bar::new(work.quiet);
        let place = writer.work().join("walk");
        let walks = Sequential::begin(
            &self.model.checkpoint,
            windows,
            (behind, attended),
            (&place, writer.first_block()),
            &bar,
        )?;
        let done = work.in_sequence(&walks, aim)?;
        bar.finish();
        Ok(done)
    }

    /// Everything that decides the bytes of the output, as text.
    fn describe(&self) -> Result<String> {
        let form = &self.arguments.planning.form;
        let task = json!({
            "method": self.method.name(),
            "options": pipeline::options(self.method, &self.arguments.planning.target)?,
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
        calibration.aim(self.plan.needs(self.method))
    }
}

/// Before and after. A GGUF source is compared at the format in which the output is written.
fn measure(
    text: &Prepared,
    baseline: Option<&Baseline<'_>>,
    source: &Checkpoint,
    written: &Checkpoint,
    quiet: bool,
) -> Result<(Measured, Measured)> {
    let (mut before, after) = match baseline {
        Some(baseline) => baseline.compare(written, quiet)?,
        None => text.compare(source, written, quiet)?,
    };
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
    measured: Option<(Prepared, (Measured, Measured))>,
    bytes: usize,
}

impl<S: compress_core::Step> Done<'_, S> {
    fn json(&self, method: &str) -> Result<serde_json::Value> {
        let mut json = json!({
            "method": method,
            "model": self.model.name,
            "output": self.arguments.output.to_string_lossy(),
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
        if let Some((text, (before, after))) = &self.measured {
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
            options: pipeline::options(method, &self.arguments.planning.target)?,
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
        let table = self.measured.as_ref();
        let table = table.map_or_else(String::new, |(text, (before, after))| {
            format!(
                "Measured on {}:\n\n{}",
                text.title(),
                report::comparison(before, after)
            )
        });
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
        let Some((text, (before, after))) = &self.measured else {
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
