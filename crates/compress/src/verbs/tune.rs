//! `compress tune MODEL --original ORIGINAL -o OUT`: train what compression has left.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use compress_checkpoint::{Card, Checkpoint, Edits, Layout, Output, Record, Writer};
use compress_evaluate::Protocol;
use compress_models::{Decoder, Device};
use compress_tune::{Diverged, Journal, Lesson, Point, distil, task, train};
use serde_json::{Value, json};

use crate::{
    Outcome,
    args::{Objective, Tune},
    evidence::Bar,
    interrupt,
    model::Opened,
    plot,
    report::{self, Measured},
    text,
    verbs::{evaluate::Prepared, run::give_up},
};

pub fn run(job: &Tune) -> Result<Outcome> {
    let quiet = job.printing.quiet;
    let model = Opened::open(Some(&job.model), quiet)?;
    let original = job.original.as_deref();
    let original = original.map(|name| Opened::open(Some(name), quiet));
    let original = original.transpose()?;
    match &original {
        Some(original) => original.check_original_of(&model)?,
        None if job.objective == Objective::Distillation => bail!(
            "distillation learns from the original: give --original, the model that was compressed"
        ),
        None => {}
    }
    let output = Output::new(&job.output, job.force, &model.checkpoint)?;
    let prepared = if job.no_evaluate {
        None
    } else {
        let memory = job.resources.memory();
        let text = Prepared::new(&job.text, &model.checkpoint, memory)?;
        text.check_room(&model.checkpoint)?;
        Some(text)
    };
    let (windows, held_out) = corpus(job, &model)?;
    let options = job.options(windows.len());
    let bar = Bar::new(quiet);
    let lesson = Lesson {
        windows: &windows,
        held_out: &held_out,
        options: &options,
        progress: &bar,
    };
    let about = task(
        &lesson,
        &json!({
            "model": model.id()?,
            "original": original.as_ref().map(Opened::id).transpose()?,
            "objective": job.objective.name(),
            "corpus": text::digest(windows.iter().chain(&held_out).flatten()),
        }),
    );
    // Every tensor keeps its name, shape and place.
    let edits = Edits {
        format: job.dtype,
        ..Edits::default()
    };
    let layout = Layout::new(&model.checkpoint, &edits)?;
    let writer = Writer::begin(&model.checkpoint, &layout, output, &about.to_string())?;
    interrupt::work_directory(Some(writer.work()));
    let task = Task {
        job,
        model: &model,
        original: original.as_ref(),
        lesson,
        about: &about,
    };
    let told = match task.carry_out(&writer, prepared) {
        Ok((told, journal)) => {
            journal.finish()?;
            writer.finish(&told.record, &told.card)?;
            told.text
        }
        Err(error) => return Err(give_up(error, writer)),
    };
    interrupt::work_directory(None);
    report::print(told)?;
    Ok(Outcome::Kept)
}

type Windows = Vec<Vec<u32>>;

/// The windows to train on, and the last ones of each text, which are held out.
fn corpus(job: &Tune, model: &Opened) -> Result<(Windows, Windows)> {
    let config = model.checkpoint.config();
    let protocol = Protocol {
        context: job
            .train_ctx
            .or(job.text.ctx)
            .unwrap_or(config.context.min(512)),
        windows: None,
        bos: false,
        documents: None,
    };
    let tokenizer = model.checkpoint.tokenizer()?;
    let (mut windows, mut held_out) = (Vec::new(), Vec::new());
    for path in &job.corpus {
        let name = path.display();
        let cut = protocol.cut(&text::read(path)?, &tokenizer, config.bos);
        let mut cut = cut.with_context(|| format!("cannot train on {name}"))?;
        let kept = cut
            .len()
            .saturating_sub(job.held_out.div_ceil(job.corpus.len()));
        held_out.extend(cut.split_off(kept));
        windows.extend(cut);
    }
    ensure!(
        !windows.is_empty() && !held_out.is_empty(),
        "the corpus is too short: {} windows of {} tokens are to be held out, and more are needed to train on",
        job.held_out,
        protocol.context
    );
    Ok((windows, held_out))
}

/// A training, once all of it is known.
struct Task<'a> {
    job: &'a Tune,
    model: &'a Opened,
    original: Option<&'a Opened>,
    lesson: Lesson<'a>,
    about: &'a Value,
}

/// What training took.
struct Effort {
    seconds: f64,
    /// In this run; a killed one may have made others before.
    steps: usize,
    parameters: usize,
    diverged: Vec<Diverged>,
}

/// What is told of a training.
struct Told {
    record: Record,
    card: Card,
    text: String,
}

/// Before and after, on a text.
type Measurement = (Prepared, Measured, Measured);

impl Task<'_> {
    fn carry_out(&self, writer: &Writer<'_>, text: Option<Prepared>) -> Result<(Told, Journal)> {
        let mut journal = Journal::open(&writer.work().join("training"))?;
        let effort = self.train(writer, &mut journal)?;
        self.draw(&journal.curve)?;
        writer.write_others()?;
        let written = Checkpoint::open(&writer.work())?;
        let measured = text.map(|text| self.measure(text, &written)).transpose()?;
        let json = self.json(&effort, &journal.curve, measured.as_ref())?;
        let card = self.card(measured.as_ref());
        let text = if self.job.printing.json {
            json.to_string()
        } else {
            self.text(&effort, &card.table)
        };
        let record = self.record(json)?;
        Ok((Told { record, card, text }, journal))
    }

    /// Trains, and puts what came of it in its place.
    fn train(&self, writer: &Writer<'_>, journal: &mut Journal) -> Result<Effort> {
        let mut decoder = Decoder::load(&self.model.checkpoint, &Device::flex())?;
        let start = Instant::now();
        let before = made(&journal.curve);
        let ending = match (self.job.objective, self.original) {
            (Objective::Distillation, Some(original)) => {
                distil(&original.checkpoint, &mut decoder, &self.lesson, journal)?
            }
            _ => train(&mut decoder, &self.lesson, journal)?,
        };
        self.lesson.progress.finish();
        warn_of(&ending.diverged);
        let trained = self.lesson.options.trained;
        for (name, value) in compress_tune::tensors(&decoder, trained) {
            let numbers = value.into_data().try_into_vec();
            let numbers: Vec<f32> = numbers.map_err(|e| anyhow!("cannot read `{name}`: {e:?}"))?;
            writer.replace(&name, &numbers)?;
        }
        Ok(Effort {
            seconds: start.elapsed().as_secs_f64(),
            steps: made(&journal.curve) - before,
            parameters: ending.parameters,
            diverged: ending.diverged,
        })
    }

    fn draw(&self, curve: &[Point]) -> Result<()> {
        if let Some(path) = &self.job.plot {
            plot::curve::draw(path, curve)?;
        }
        if let Some(path) = &self.job.log {
            let json = json!({ "task": self.about, "curve": curve });
            fs::write(path, format!("{json:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn measure(&self, text: Prepared, written: &Checkpoint) -> Result<Measurement> {
        let quiet = self.job.printing.quiet;
        let model = &self.model.checkpoint;
        let (before, after) = match self.original.map(|original| &original.checkpoint) {
            Some(original) => {
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

    fn tokens_per_step(&self) -> usize {
        self.lesson.options.batch * self.lesson.windows.first().map_or(0, Vec::len)
    }

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
            "output": self.job.output,
            "objective": self.job.objective.name(),
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

    fn record(&self, report: Value) -> Result<Record> {
        let model = &self.model.checkpoint;
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: "tune".into(),
            options: serde_json::to_value(self.lesson.options)?,
            calibration: None,
            aim: Value::Null,
            source: self.model.id()?,
            format: self.job.dtype.unwrap_or(model.format()).to_string(),
            dense: false,
            plan: Value::Null,
            errors: json!({}),
            report: Some(report),
            before: Record::of(model),
        })
    }

    fn card(&self, measured: Option<&Measurement>) -> Card {
        let table = measured.map_or_else(String::new, |(text, before, after)| {
            format!(
                "Before and after tuning, {}:\n\n{}",
                text.title(),
                report::comparison(before, after)
            )
        });
        report::card(&self.job.output, table)
    }

    fn text(&self, effort: &Effort, table: &str) -> String {
        format!(
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
        )
    }
}

/// Tells where training could not go on.
fn warn_of(diverged: &[Diverged]) {
    for Diverged { block, step, loss } in diverged {
        let place = block.map_or_else(String::new, |block| format!(" of block {block}"));
        eprintln!(
            "warning: the loss at step {step}{place} is {loss}, so training ended with the best state before; a lower --rate would go further"
        );
    }
}

/// How many steps a curve tells of.
fn made(curve: &[Point]) -> usize {
    curve.iter().filter(|point| point.step > 0).count()
}
