//! `compress tune MODEL --original ORIGINAL -o OUT`: train what compression has left.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use compress_checkpoint::{Card, Checkpoint, Layout, Output, Record, Writer};
use compress_evaluate::Protocol;
use compress_models::{Decoder, Device, Tensor};
use compress_tune::{Journal, Lesson, Options, Point, distil, task, train};
use serde_json::json;

use crate::{
    Outcome,
    args::{Aspect, Tune},
    evidence::Bar,
    interrupt,
    model::Opened,
    plot,
    report::{self, Measured},
    text,
    verbs::evaluate::Prepared,
};

pub fn run(job: &Tune) -> Result<Outcome> {
    let quiet = job.printing.quiet;
    let model = Opened::open(Some(&job.model), quiet)?;
    let original = job.original.as_deref();
    let original = original.map(|name| Opened::open(Some(name), quiet));
    let original = original.transpose()?;
    let output = Output::new(&job.output, job.force, &model.checkpoint)?;
    let prepared = if job.no_evaluate {
        None
    } else {
        Some(Prepared::new(&job.text, &model.checkpoint)?)
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
    let place = output.work().with_extension("tuning");
    let mut journal = Journal::open(&place, about.clone(), job.force)?;
    interrupt::work_directory(Some(place));
    let mut decoder = Decoder::load(&model.checkpoint, &Device::flex())?;
    let start = Instant::now();
    let before = journal.curve.len();
    match job.objective {
        Aspect::Language => train(&mut decoder, &lesson, &mut journal)?,
        Aspect::Distillation => {
            let original = original.as_ref().context(
                "distillation learns from the original: give --original, the model that was compressed",
            )?;
            let teacher = Decoder::load(&original.checkpoint, &Device::flex())?;
            distil(&teacher, &mut decoder, &lesson, &mut journal)?;
        }
    }
    bar.finish();
    let trained = Trained {
        seconds: start.elapsed().as_secs_f64(),
        steps: journal
            .curve
            .iter()
            .skip(before)
            .filter(|p| p.step > 0)
            .count(),
        tokens_per_step: options.batch * windows.first().map_or(0, Vec::len),
        parameters: compress_tune::count(&decoder, options.trained),
    };
    let done = Done {
        job,
        model: &model,
        options: &options,
        curve: &journal.curve,
        trained,
        about: &about,
    };
    done.draw()?;
    let told = done.write(&decoder, output, prepared, original.as_ref())?;
    journal.finish()?;
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

fn numbers(name: &str, value: Tensor<2>) -> Result<Vec<f32>> {
    let numbers = value.into_data().try_into_vec();
    numbers.map_err(|e| anyhow!("cannot read `{name}`: {e:?}"))
}

/// What training took.
struct Trained {
    seconds: f64,
    steps: usize,
    tokens_per_step: usize,
    parameters: usize,
}

/// A training that is over, to be written and told of.
struct Done<'a> {
    job: &'a Tune,
    model: &'a Opened,
    options: &'a Options,
    curve: &'a [Point],
    trained: Trained,
    about: &'a serde_json::Value,
}

impl Done<'_> {
    fn draw(&self) -> Result<()> {
        if let Some(path) = &self.job.plot {
            plot::curve::draw(path, self.curve)?;
        }
        if let Some(path) = &self.job.log {
            let json = json!({ "task": self.about, "curve": self.curve });
            std::fs::write(path, format!("{json:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes the tuned model in the layout of the one it was, and measures both.
    fn write(
        &self,
        decoder: &Decoder,
        output: Output,
        prepared: Option<Prepared>,
        original: Option<&Opened>,
    ) -> Result<String> {
        let source = &self.model.checkpoint;
        // Every tensor keeps its name, shape and place.
        let layout = Layout::new(source, &BTreeMap::new(), None)?;
        let writer = Writer::begin(source, &layout, output, &self.about.to_string())?;
        for (name, value) in compress_tune::tensors(decoder, self.options.trained) {
            writer.replace(&name, &numbers(&name, value)?)?;
        }
        writer.write_others()?;
        let written = Checkpoint::open(&writer.work())?;
        let measured = prepared.map(|text| {
            let measured = self.measure(&text, &written, original)?;
            anyhow::Ok((text, measured))
        });
        let measured = measured.transpose()?;
        let json = self.json(measured.as_ref())?;
        let card = self.card(measured.as_ref());
        let told = if self.job.printing.json {
            json.to_string()
        } else {
            self.text(&card.table)
        };
        writer.finish(&self.record(json)?, &card)?;
        Ok(told)
    }

    fn measure(
        &self,
        text: &Prepared,
        written: &Checkpoint,
        original: Option<&Opened>,
    ) -> Result<(Measured, Measured)> {
        let quiet = self.job.printing.quiet;
        let model = &self.model.checkpoint;
        Ok(match original {
            Some(original) => {
                let (_, before) = text.compare(&original.checkpoint, model, quiet)?;
                (
                    before,
                    text.compare(&original.checkpoint, written, quiet)?.1,
                )
            }
            None => (text.score(model, quiet)?, text.score(written, quiet)?),
        })
    }

    fn json(
        &self,
        measured: Option<&(Prepared, (Measured, Measured))>,
    ) -> Result<serde_json::Value> {
        let Trained {
            seconds,
            steps,
            tokens_per_step,
            parameters,
        } = self.trained;
        let mut json = json!({
            "model": self.model.name,
            "output": self.job.output,
            "objective": self.job.objective.name(),
            "trained_parameters": parameters,
            "parameters": self.model.checkpoint.parameters(),
            "steps": steps,
            "train_seconds": seconds,
            "trained_tokens_per_second": (steps * tokens_per_step) as f64 / seconds,
            "held_out_loss": self.held_out(),
        });
        if let Some((text, (before, after))) = measured {
            json["text"] = text.describe();
            json["before"] = serde_json::to_value(before)?;
            json["after"] = serde_json::to_value(after)?;
        }
        Ok(json)
    }

    /// The least loss of the held-out windows.
    fn held_out(&self) -> Option<f64> {
        let looks = self.curve.iter().filter_map(|point| point.held_out);
        looks.min_by(f64::total_cmp)
    }

    fn record(&self, report: serde_json::Value) -> Result<Record> {
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: "tune".into(),
            options: serde_json::to_value(self.options)?,
            calibration: None,
            aim: serde_json::Value::Null,
            source: self.model.id()?,
            format: self.model.checkpoint.format().to_string(),
            dense: false,
            plan: serde_json::Value::Null,
            errors: json!({}),
            report: Some(report),
        })
    }

    fn card(&self, measured: Option<&(Prepared, (Measured, Measured))>) -> Card {
        let name = Path::new(&self.job.output).file_name().unwrap_or_default();
        let table = measured.map_or_else(String::new, |(text, (before, after))| {
            format!(
                "Before and after tuning, {}:\n\n{}",
                text.title(),
                report::comparison(before, after)
            )
        });
        Card {
            name: name.to_string_lossy().into_owned(),
            table,
            command: report::command(),
        }
    }

    fn text(&self, table: &str) -> String {
        let Trained {
            seconds,
            steps,
            tokens_per_step,
            parameters,
        } = self.trained;
        format!(
            "{}: {} tuned by {}, {} of {} parameters, {steps} steps of {tokens_per_step} tokens in {seconds:.1} s, {:.0} tokens/s\n{table}",
            self.job.output.display(),
            self.model.name,
            self.job.objective.name(),
            report::grouped(parameters),
            report::grouped(self.model.checkpoint.parameters()),
            (steps * tokens_per_step) as f64 / seconds,
        )
    }
}
