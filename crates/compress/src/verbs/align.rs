//! `compress align MODEL -o OUT`: the same model, with the heads of its layers turned towards each other.
//!
//! No figure of a model changes but by rounding; what changes is how much of its layers matrix atoms have in common, so that
//! `run masa OUT` shares more. Turns are decided first, group after group, then every block is written.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use compress_align::{Alignment, Heads, Sides, Turn, align};
use compress_checkpoint::{Card, Checkpoint, Input, Layout, Output, OutputSpec, Record, Writer};
use compress_core::{Edit, Factor, Form, Matrix, Role, Site, Survey};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    Outcome,
    args::Align,
    interrupt,
    model::Opened,
    progress, report,
    scoring::{ModelReport, ScoringText},
    verbs::run::{goes_on, leave, not_evaluated, publish},
};

/// The weights that turns change.
const ATTENTION: [Role; 4] = [Role::Query, Role::Key, Role::Value, Role::Output];

/// Aligns, publishes and measures.
pub fn run(job: &Align) -> Result<Outcome> {
    let model = Opened::open(job.model.name.as_deref(), job.printing.quiet)?;
    check(&model)?;
    let text = job.text.file.iter().map(|path| Input::Other(path));
    let inputs: Vec<Input<'_>> = model.inputs().chain(text).collect();
    let output = Output::claim(&job.output, job.force, &inputs)?;
    let text = scoring_text(job, &model)?;
    let spec = OutputSpec {
        forms: sites(&model).map(|site| (site, Form::WHOLE)).collect(),
        format: job.dtype,
    };
    let layout = Layout::new(&model.checkpoint, &spec)?;
    let task = Task {
        job,
        model: &model,
        survey: Survey::new(&model.checkpoint, |_| true),
        groups: groups(model.checkpoint.config().layers, job.groups),
    };
    // Before the first file of it: an interrupt may come at any moment.
    interrupt::say(Some(goes_on(&output.work())));
    let writer = Writer::begin(&model.checkpoint, &layout, output, &task.describe()?)?;
    let aligned = match task.write(&writer) {
        Ok(aligned) => aligned,
        Err(error) => return Err(leave(error, writer)),
    };
    let record = |measured: Option<&Measured>| task.record(task.json(&aligned, measured)?);
    let published = publish(writer, &record(None)?, &task.card(None))?;
    // The model is finished and in its place: nothing that goes wrong from here on takes it away.
    let measure = |text: ScoringText| -> Result<Measured> {
        let written = Checkpoint::open(published.path())?;
        let both = text.compare(&model.checkpoint, &written, job.printing.quiet);
        let (before, after) = both.with_context(|| not_evaluated(published.path()))?;
        Ok((text, before, after))
    };
    let measured = text.map(measure).transpose()?;
    if let Some(measured) = &measured {
        published.describe(&record(Some(measured))?, &task.card(Some(measured)))?;
    }
    interrupt::say(None); // all is done that it could speak of
    task.tell(&aligned, measured.as_ref())?;
    Ok(Outcome::Kept)
}

/// A text, and the figures of the model before and after.
type Measured = (ScoringText, ModelReport, ModelReport);

/// The weights of attention.
fn sites(model: &Opened) -> impl Iterator<Item = Site> {
    let layers = 0..model.checkpoint.config().layers;
    layers.flat_map(|layer| ATTENTION.map(|role| Site::new(layer, role)))
}

/// Refuses weights that cannot be turned: factors, codes and mixtures would have to be made anew, and lose.
fn check(model: &Opened) -> Result<()> {
    for site in sites(model) {
        let form = model.checkpoint.forms().get(&site);
        ensure!(
            form == Some(&Form::WHOLE),
            "{}: {site} is no whole weight in floats, so its heads cannot be turned; align the original, then compress what that gives",
            model.name
        );
    }
    Ok(())
}

/// The text that both models are run over, if they are; refused before any work.
fn scoring_text(job: &Align, model: &Opened) -> Result<Option<ScoringText>> {
    if job.no_evaluate {
        return Ok(None);
    }
    let machine = job.resources.job();
    let text = ScoringText::new(&job.text.job(), &model.checkpoint, machine)?;
    text.check_room(&model.checkpoint, 2)?;
    Ok(Some(text))
}

/// Layers in consecutive groups, as masa cuts them.
fn groups(layers: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, layers.max(1));
    let start = |part: usize| part * layers / parts;
    (0..parts)
        .map(|part| start(part)..start(part + 1))
        .collect()
}

/// An alignment, once all of it is known.
struct Task<'a> {
    job: &'a Align,
    model: &'a Opened,
    survey: Survey<'a>,
    /// The layers that are turned towards each other.
    groups: Vec<Range<usize>>,
}

impl Task<'_> {
    /// Everything that decides the bytes of the output, as text.
    fn describe(&self) -> Result<String> {
        let task = json!({
            "method": "align",
            "options": self.options(),
            "source": self.model.id()?,
            "dtype": self.job.dtype,
        });
        Ok(task.to_string())
    }

    fn options(&self) -> Value {
        let Align { keep, rounds, .. } = self.job;
        json!({ "keep": keep, "groups": self.groups.len(), "rounds": rounds })
    }

    /// Decides the turns of all groups, writes every block, and all else that the output consists of.
    ///
    /// Turns are decided anew by a run that goes on: they are the same, and blocks that were written are not written again.
    fn write(&self, writer: &Writer<'_>) -> Result<Vec<Alignment>> {
        let layers = self.model.checkpoint.config().layers;
        let looks = layers * (self.job.rounds + 2);
        let bar = progress::bar("aligning", looks, self.job.printing.quiet);
        let groups = self.groups.iter();
        let aligned = groups.map(|layers| self.align(layers, &bar));
        let aligned = aligned.collect::<Result<Vec<_>>>()?;
        bar.finish_and_clear();
        let bar = progress::bar("writing", layers, self.job.printing.quiet);
        for (layer, turn) in aligned.iter().flat_map(|it| &it.turns).enumerate() {
            self.write_block(layer, turn, writer)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        writer.write_others()?;
        Checkpoint::open(&writer.model())?; // as others will
        Ok(aligned)
    }

    fn align(&self, layers: &Range<usize>, bar: &ProgressBar) -> Result<Alignment> {
        let config = self.model.checkpoint.config();
        let heads = Heads {
            key_value: config.key_value_heads,
            queries: config.heads / config.key_value_heads,
            size: config.head_size,
        };
        let layer = |index: usize| -> compress_core::Result<Sides> {
            let weight = |role| self.survey.weight(Site::new(layers.start + index, role));
            Ok([weight(Role::Value)?, weight(Role::Output)?.transposed()])
        };
        let done = || bar.inc(1);
        Ok(align(
            layers.len(),
            heads,
            &layer,
            self.job.options(layers.len()),
            &done,
        )?)
    }

    /// Writes the attention of a block under its turn.
    fn write_block(&self, layer: usize, turn: &Turn, writer: &Writer<'_>) -> Result<()> {
        // Biases are no part of a step: they are written each time, and are the same.
        for role in ATTENTION {
            self.write_bias(Site::new(layer, role), turn, writer)?;
        }
        if writer.finished().contains_key(&layer) {
            return Ok(());
        }
        let edit = |role| {
            let site = Site::new(layer, role);
            let weight = self.survey.weight(site)?;
            let weight = match role {
                Role::Value => turn.turned(&weight)?,
                Role::Output => turn.turned(&weight.transposed())?.transposed(),
                _ => turn.moved(&weight)?,
            };
            Ok(Edit {
                site,
                factor: Factor::whole(weight),
                error: 0.0,
            })
        };
        let edits = ATTENTION.into_iter().map(edit);
        writer.put(layer, &edits.collect::<Result<Vec<_>>>()?)?;
        Ok(writer.settle()?)
    }

    /// The bias of query, key or value, which goes by heads as its rows do; output's is of the residual stream, and stays.
    fn write_bias(&self, site: Site, turn: &Turn, writer: &Writer<'_>) -> Result<()> {
        let model = &self.model.checkpoint;
        if !model.config().has_bias(site) || site.role() == Some(Role::Output) {
            return Ok(());
        }
        let name = model.bias_name(site);
        let numbers = model.numbers(&name)?;
        let column = Matrix::new(numbers.len(), 1, numbers)?;
        let column = match site.role() {
            Some(Role::Value) => turn.turned(&column)?,
            _ => turn.moved(&column)?,
        };
        Ok(writer.replace(&name, column.data())?)
    }

    /// For programs.
    fn json(&self, aligned: &[Alignment], measured: Option<&Measured>) -> Result<Value> {
        let groups = self.groups.iter().zip(aligned).map(|(layers, found)| {
            let moved = found.turns.iter().filter(|turn| !turn.keeps_places());
            json!({
                "layers": [layers.start, layers.end.saturating_sub(1)],
                "left": found.left,
                "layers_with_moved_heads": moved.count(),
            })
        });
        let mut json = json!({
            "method": "align",
            "model": self.model.name,
            "output": self.job.output.to_string_lossy(),
            "options": self.options(),
            "groups": groups.collect::<Vec<_>>(),
        });
        if let Some((text, before, after)) = measured {
            json["text"] = text.describe();
            json["before"] = serde_json::to_value(before)?;
            json["after"] = serde_json::to_value(after)?;
        }
        Ok(json)
    }

    /// The record in the output: there is no plan, and no weight has an error.
    fn record(&self, report: Value) -> Result<Record> {
        let model = &self.model.checkpoint;
        Ok(Record {
            made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
            method: "align".into(),
            options: self.options(),
            calibration: None,
            refit: Value::Null,
            source: self.model.id()?,
            format: self.job.dtype.unwrap_or(model.format()).to_string(),
            dense: false,
            plan: Value::Null,
            decided_by: None,
            errors: json!({}),
            report: Some(report),
            before: Record::of(model),
        })
    }

    fn card(&self, measured: Option<&Measured>) -> Card {
        let table = measured.map_or_else(String::new, |(text, before, after)| {
            let table = report::before_and_after(before, after);
            format!("Before and after, {}:\n\n{table}", text.title())
        });
        report::card(&self.job.output, table)
    }

    /// Prints the result.
    fn tell(&self, aligned: &[Alignment], measured: Option<&Measured>) -> Result<()> {
        if self.job.printing.json {
            return report::print(self.json(aligned, measured)?);
        }
        let mut lines = vec![format!(
            "{}: {}, heads of value and output aligned",
            self.job.output.display(),
            self.model.name
        )];
        for (layers, Alignment { left, .. }) in self.groups.iter().zip(aligned) {
            let percent = |place: Option<&f64>| 100.0 * place.copied().unwrap_or(0.0);
            lines.push(format!(
                "layers {} to {}: an atom and residuals leave {:.1} % of value and output, {:.1} % after {} rounds",
                layers.start,
                layers.end.saturating_sub(1),
                percent(left.first()),
                percent(left.last()),
                left.len(),
            ));
        }
        if let Some((text, before, after)) = measured {
            lines.push(text.title());
            lines.push(report::before_and_after(before, after).to_string());
        }
        report::print(lines.join("\n"))
    }
}
