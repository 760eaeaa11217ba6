//! `compress tune MODEL --original ORIGINAL -o OUT`: train what compression has left.
//!
//! The way is that of `run`: claim the place, train in the work directory, where a killed training goes on, publish,
//! then run the models. The whole tuned model is in memory, on `--device`; all tensors that are not trained are copied
//! from the source.

mod corpus;

use std::{iter, time::Instant};

use anyhow::{Context as _, Result, ensure};
use compress_checkpoint::{Card, Checkpoint, Input, Layout, Output, OutputSpec, Record, Writer};
use compress_models::{CPU, Decoder, Device, to_host};
use compress_tune::{Diverged, Journal, Lesson, Point, distil, task, train};
use serde_json::{Value, json};

use crate::{
    Outcome,
    args::{Objective, Tune},
    evidence::Bar,
    interrupt,
    model::Opened,
    plot, report,
    scoring::{ModelReport, ScoringText},
    side, text,
    verbs::run::{goes_on, leave, not_evaluated, publish},
};

/// Trains, publishes and measures. A training that diverged before it was any better leaves nothing.
pub fn run(job: &Tune) -> Result<Outcome> {
    let quiet = job.printing.quiet;
    let model = Opened::open(Some(&job.model), quiet)?;
    let original = original(job, &model)?;
    let inputs = inputs(job, &model, original.as_ref());
    let output = Output::claim(&job.output, job.force, &inputs)?;
    check_side(job, &inputs, &output)?;
    let text = scoring_text(job, &model)?;
    let (windows, held_out) = corpus::windows(job, &model)?;
    let options = job.options(windows.len());
    let bar = Bar::new(quiet);
    let lesson = Lesson {
        windows: &windows,
        held_out: &held_out,
        options: &options,
        progress: &bar,
    };
    // All that decides the outcome: a work directory of anything else is not gone on with.
    let (device, device_name) = job.resources.job().device.open()?;
    let mut decided = json!({
        "model": model.id()?,
        "original": original.as_ref().map(Opened::id).transpose()?,
        "objective": job.objective.name(),
        "corpus": text::digest(windows.iter().chain(&held_out).flatten()),
    });
    if device_name != CPU {
        decided["device"] = device_name.clone().into();
    }
    let about = task(&lesson, &decided);
    // Every tensor keeps its name, shape and place.
    let spec = OutputSpec {
        format: job.dtype,
        ..OutputSpec::default()
    };
    let layout = Layout::new(&model.checkpoint, &spec)?;
    // Before the first file of it: an interrupt may come at any moment.
    interrupt::say(Some(goes_on(&output.work())));
    let writer = Writer::begin(&model.checkpoint, &layout, output, &about.to_string())?;
    let task = Task {
        job,
        model: &model,
        original: original.as_ref(),
        lesson,
        about: &about,
        device: (device, device_name),
    };
    let (effort, curve) = match task.train(&writer) {
        Ok(trained) => trained,
        // Nothing that was learnt is worth to go on from, and the same command would fail the same way.
        Err(error) if has_diverged(&error) => {
            writer.discard()?;
            return Err(error);
        }
        Err(error) => return Err(leave(error, writer)),
    };
    task.publish(writer, (&effort, &curve), text)?;
    Ok(Outcome::Kept)
}

/// Refuses places for the picture and the log that cannot be written, or that hold something else.
fn check_side(job: &Tune, inputs: &[Input<'_>], output: &Output) -> Result<()> {
    ensure!(
        job.plot.is_none() || job.plot != job.log,
        "picture and log are to go to one file; name two"
    );
    for path in [&job.plot, &job.log] {
        side::check(path.as_deref(), inputs, Some(output))?;
    }
    Ok(())
}

/// The model that was compressed, where it is given. Distillation needs it; otherwise divergence is measured from it.
fn original(job: &Tune, model: &Opened) -> Result<Option<Opened>> {
    let Some(name) = job.original.as_deref() else {
        ensure!(
            job.objective != Objective::Distillation,
            "distillation learns from the original: give --original, the model that was compressed"
        );
        return Ok(None);
    };
    let original = Opened::open(Some(name), job.printing.quiet)?;
    original.check_original_of(model)?;
    Ok(Some(original))
}

/// The text that models are run over in the end, if they are. Refused here, not after hours of training.
fn scoring_text(job: &Tune, model: &Opened) -> Result<Option<ScoringText>> {
    if job.no_evaluate {
        return Ok(None);
    }
    let machine = job.resources.job();
    let text = ScoringText::new(&job.text.job(), &model.checkpoint, machine)?;
    // The original beside the model before and after.
    let models = if job.original.is_some() { 3 } else { 2 };
    text.check_room(&model.checkpoint, models)?;
    Ok(Some(text))
}

/// The paths that training reads and must not replace.
fn inputs<'a>(job: &'a Tune, model: &'a Opened, original: Option<&'a Opened>) -> Vec<Input<'a>> {
    let models = iter::once(model).chain(original);
    let models = models.flat_map(Opened::inputs);
    let texts = job.corpus.iter().chain(&job.text.file);
    models.chain(texts.map(|path| Input::Other(path))).collect()
}

/// Whether training ended without any state better than the start.
fn has_diverged(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref();
    matches!(error, Some(compress_tune::Error::Diverged { .. }))
}

/// A training, once all of it is known.
struct Task<'a> {
    /// The training as it was asked for.
    job: &'a Tune,
    /// The model to be tuned.
    model: &'a Opened,
    /// The model that it was made from.
    original: Option<&'a Opened>,
    /// Windows and settings.
    lesson: Lesson<'a>,
    /// All that decides the outcome, for the log.
    about: &'a Value,
    /// The device that it trains on, and its name.
    device: (Device, String),
}

/// The cost of training.
struct Effort {
    /// Seconds of training in this run.
    seconds: f64,
    /// In this run; a killed one may have made others before.
    steps: usize,
    /// Numbers that were trained.
    parameters: usize,
    /// Where training could not go on.
    diverged: Vec<Diverged>,
}

/// A text, and the figures of the model before and after.
type Measurement = (ScoringText, ModelReport, ModelReport);

impl Task<'_> {
    /// Trains, puts what came of it in its place, and writes all else that the output consists of.
    fn train(&self, writer: &Writer<'_>) -> Result<(Effort, Vec<Point>)> {
        let mut journal = Journal::open(&writer.state())?;
        let (device, _) = &self.device;
        let mut decoder = Decoder::load_shared(&self.model.checkpoint, device)?;
        let start = Instant::now();
        let ending = match (self.job.objective, self.original) {
            (Objective::Distillation, Some(original)) => distil(
                &original.checkpoint,
                &mut decoder,
                &self.lesson,
                &mut journal,
            )?,
            // A distillation without an original was refused before.
            _ => train(&mut decoder, &self.lesson, &mut journal)?,
        };
        // Before warnings, which the bar would overwrite.
        self.lesson.progress.finish();
        warn_of(&ending.diverged);
        let trained = self.lesson.options.trained;
        // All other tensors are in place since the work directory was begun.
        for (name, value) in compress_tune::tensors(&decoder, trained) {
            let numbers = to_host(value).with_context(|| format!("cannot read `{name}`"))?;
            writer.replace(&name, &numbers)?;
        }
        writer.write_others()?;
        Checkpoint::open(&writer.model())?; // as others will
        let effort = Effort {
            seconds: start.elapsed().as_secs_f64(),
            steps: ending.steps,
            parameters: ending.parameters,
            diverged: ending.diverged,
        };
        Ok((effort, journal.curve))
    }

    /// Gives the model its name, then runs it where a text is given, and tells of it. Record and card are completed
    /// once there are figures.
    fn publish(
        &self,
        writer: Writer<'_>,
        (effort, curve): (&Effort, &[Point]),
        text: Option<ScoringText>,
    ) -> Result<()> {
        let record = |measured| self.record(self.json(effort, curve, measured)?);
        let published = publish(writer, &record(None)?, &self.card(None))?;
        // The model is finished and in its place: nothing that goes wrong from here on takes it away.
        self.draw(curve)?;
        let measure = |text: ScoringText| {
            let written = Checkpoint::open(published.path())?;
            self.measure(text, &written)
        };
        let measured = text.map(measure).transpose();
        let measured = measured.with_context(|| not_evaluated(published.path()))?;
        if measured.is_some() {
            published.describe(&record(measured.as_ref())?, &self.card(measured.as_ref()))?;
        }
        interrupt::say(None);
        self.tell(effort, curve, measured.as_ref())
    }

    /// Writes picture and log of the loss curve, where they are asked for.
    fn draw(&self, curve: &[Point]) -> Result<()> {
        if let Some(path) = &self.job.plot {
            plot::curve::draw(path, curve)?;
        }
        if let Some(path) = &self.job.log {
            let json = json!({ "task": self.about, "curve": curve });
            side::write(path, &format!("{json:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Runs the model before and after tuning, with the divergence of both from the original where it is given.
    fn measure(&self, text: ScoringText, written: &Checkpoint) -> Result<Measurement> {
        let quiet = self.job.printing.quiet;
        let model = &self.model.checkpoint;
        let (before, after) = match self.original.map(|original| &original.checkpoint) {
            Some(original) => {
                // Both in one pass: the original is run once.
                let (_, mut both) = text.compare_all(original, &[model, written], quiet)?;
                let after = both.pop().context("nothing was compared")?;
                (both.pop().context("nothing was compared")?, after)
            }
            None => (text.score(model, quiet)?, text.score(written, quiet)?),
        };
        Ok((text, before, after))
    }

    /// Tokens per second of training.
    fn speed(&self, effort: &Effort) -> f64 {
        (effort.steps * self.tokens_per_step()) as f64 / effort.seconds
    }

    /// Tokens of a batch; all windows are of one length.
    fn tokens_per_step(&self) -> usize {
        self.lesson.options.batch * self.lesson.windows.first().map_or(0, Vec::len)
    }

    /// For programs; of a distillation the held-out loss is that of the last block.
    fn json(
        &self,
        effort: &Effort,
        curve: &[Point],
        measured: Option<&Measurement>,
    ) -> Result<Value> {
        let last = curve.last().and_then(|point| point.block);
        let of_last = curve.iter().filter(|point| point.block == last).cloned();
        let mut json = json!({
            "model": self.model.name,
            "output": self.job.output.to_string_lossy(),
            "objective": self.job.objective.name(),
            "trained_on": self.device.1,
            "trained_parameters": effort.parameters,
            "parameters": self.model.checkpoint.parameters(),
            "steps": effort.steps,
            "train_seconds": effort.seconds,
            "trained_tokens_per_second": self.speed(effort),
            "held_out_loss": compress_tune::best(&of_last.collect::<Vec<_>>()),
            "diverged": effort.diverged,
        });
        if let Some((text, before, after)) = measured {
            json["text"] = text.describe();
            json["before"] = serde_json::to_value(before)?;
            json["after"] = serde_json::to_value(after)?;
        }
        Ok(json)
    }

    /// The record in the output: a tuned model has no plan and no errors of its own, but what its source recorded is
    /// kept.
    fn record(&self, report: Value) -> Result<Record> {
        let model = &self.model.checkpoint;
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: "tune".into(),
            options: serde_json::to_value(self.lesson.options)?,
            calibration: None,
            refit: Value::Null,
            source: self.model.id()?,
            format: self.job.dtype.unwrap_or(model.format()).to_string(),
            dense: false,
            plan: Value::Null,
            errors: json!({}),
            report: Some(report),
            before: Record::of(model),
        })
    }

    /// The model card of the output.
    fn card(&self, measured: Option<&Measurement>) -> Card {
        let table = measured.map_or_else(String::new, |(text, before, after)| {
            format!(
                "Before and after tuning, {}:\n\n{}",
                text.title(),
                report::before_and_after(before, after)
            )
        });
        report::card(&self.job.output, table)
    }

    /// Prints the result.
    fn tell(&self, effort: &Effort, curve: &[Point], measured: Option<&Measurement>) -> Result<()> {
        if self.job.printing.json {
            return report::print(self.json(effort, curve, measured)?);
        }
        let table = self.card(measured).table;
        report::print(format_args!(
            "{}: {} tuned by {}, {} of {} parameters, {} steps of {} tokens in {:.1} s, {:.0} tokens/s\n{table}",
            self.job.output.display(),
            self.model.name,
            self.job.objective.name(),
            report::grouped(effort.parameters),
            report::grouped(self.model.checkpoint.parameters()),
            effort.steps,
            self.tokens_per_step(),
            effort.seconds,
            self.speed(effort),
        ))
    }
}

/// Tells where training could not go on.
fn warn_of(diverged: &[Diverged]) {
    for Diverged { block, step, loss } in diverged {
        let place = block.map_or_else(String::new, |block| format!(" of block {block}"));
        tell!(
            "warning: the loss at step {step}{place} is {loss}, so training ended with the best state before; a lower --rate would go further"
        );
    }
}
