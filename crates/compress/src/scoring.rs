//! A text that models are scored on, and what that shows of them: perplexity, divergence, size and time.
//!
//! `run`, `tune`, `evaluate` and `compare` score here, all under one protocol, so that their figures compare.
//! `loaded` decides how models are held, the crate `evaluate` does the rest.

mod model_report;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use compress_checkpoint::Checkpoint;
use compress_evaluate::{
    Needles, Outline, Pass, Protocol, Reference, Scored, ScoringFootprint, Source, needles,
};
use compress_models::{Device, Mixtures, Streamed};
use serde_json::json;

use crate::{
    job::{Machine, Text},
    loaded::{self, Loaded},
    memory::Memory,
    progress, report, shipped, text,
};

use model_report::Costs;
pub use model_report::ModelReport;

/// Windows that are scored where the user says nothing.
pub const WINDOWS: usize = 64;

/// Tokens that are generated to time them; the median of so many is past what other programs do.
const TIMED: usize = 64;

/// An original that was run once, for others to be measured against. Its blocks need not be in memory again.
pub struct Baseline<'a> {
    /// The text that it was run over, which is that of all others.
    pub text: ScoringText,
    /// For its size.
    model: &'a Checkpoint,
    /// Its last hidden states, in a file, and its head.
    reference: Reference<'a>,
    /// Its time per token, and its cache, where it was whole in memory.
    costs: Option<Costs>,
}

/// A text, cut and ready to be scored, with the device and the memory for it.
#[derive(Clone)]
pub struct ScoringText {
    /// The file, or that it is the shipped sample.
    name: String,
    /// How it was cut, for reports.
    protocol: Protocol,
    /// Its tokens.
    windows: Vec<Vec<u32>>,
    /// Tokens of each window that are a prompt, where those after it are scored given what a cache holds of it.
    split: Option<usize>,
    /// What becomes of mixtures.
    mixtures: Mixtures,
    device: Device,
    device_name: String,
    /// The memory that models may take.
    memory: Memory,
}

impl ScoringText {
    /// Reads and cuts the text as the arguments say, with the tokenizer of `model`; models are run over it on what
    /// `machine` has.
    ///
    /// Fails where there is too little text, where tokens do not fit the model, and where the device does not answer.
    pub fn new(arguments: &Text, model: &Checkpoint, machine: Machine) -> Result<Self> {
        let (name, text) = match &arguments.file {
            Some(path) => (path.display().to_string(), text::read(path)?),
            None => ("shipped sample".to_owned(), shipped::SAMPLE.to_owned()),
        };
        let config = model.config();
        // A model that cannot be run is refused here, before any work.
        config.predicts()?;
        let protocol = Protocol {
            context: arguments.context(config),
            // The largest number stands for all windows, which a protocol says by none.
            windows: arguments.windows.filter(|count| *count < usize::MAX),
            bos: arguments.bos,
            documents: arguments.documents.clone(),
        };
        // The usual number is a limit, not a demand: a shorter text has fewer.
        let most = arguments.windows.map_or(WINDOWS, |_| usize::MAX);
        let cut = protocol.cut_at_most(most, &text, &model.tokenizer()?, config.bos);
        let windows = cut.with_context(|| format!("cannot score {name}"))?;
        // Before any model is loaded.
        check(&windows, model)?;
        if protocol.context > config.context {
            let (asked, trained) = (protocol.context, config.context);
            tell!("warning: windows of {asked} tokens, but the model was made for {trained}");
        }
        let split = split(arguments, model, &windows)?;
        // Reports tell how many windows there were, not how many were asked for.
        let protocol = Protocol {
            windows: Some(windows.len()),
            ..protocol
        };
        let (device, device_name) = machine.device.open()?;
        Ok(Self {
            name,
            protocol,
            windows,
            split,
            mixtures: arguments.mixtures,
            device,
            device_name,
            memory: machine.memory,
        })
    }

    /// Perplexity, and time per token, of one model.
    pub fn score(&self, model: &Checkpoint, quiet: bool) -> Result<ModelReport> {
        let loaded = self.load(&[model], None, quiet)?;
        let score = self.pass(&loaded, quiet, |pass| {
            Ok(pass.perplexity(loaded.networks()[0])?)
        })?;
        let mut costs = self.costs(&loaded)?.into_iter();
        ModelReport::new(model, score, None, costs.next())
    }

    /// Both models, the second with its divergence from the first.
    pub fn compare(
        &self,
        original: &Checkpoint,
        other: &Checkpoint,
        quiet: bool,
    ) -> Result<(ModelReport, ModelReport)> {
        let (before, mut after) = self.compare_all(original, &[other], quiet)?;
        let after = after.pop().context("nothing was compared")?;
        Ok((before, after))
    }

    /// The original, and other models with their divergence from it, all in one pass: divergence takes the logits of
    /// both at the same time.
    pub fn compare_all(
        &self,
        original: &Checkpoint,
        others: &[&Checkpoint],
        quiet: bool,
    ) -> Result<(ModelReport, Vec<ModelReport>)> {
        let models = [&[original], others].concat();
        let loaded = self.load(&models, None, quiet)?;
        let networks = loaded.networks();
        let found = self.pass(&loaded, quiet, |pass| {
            Ok(pass.compare(Source::Network(networks[0]), &networks[1..])?)
        })?;
        let mut costs = self.costs(&loaded)?.into_iter();
        let before = ModelReport::new(original, found.original, None, costs.next())?;
        let after = others.iter().zip(found.others).map(|(model, scored)| {
            let Scored { score, kl } = scored;
            ModelReport::new(model, score, Some(kl), costs.next())
        });
        Ok((before, after.collect::<Result<_>>()?))
    }

    /// Runs an original once, for others to be measured against. Its last hidden states lie in the file at `path`,
    /// which the caller removes; logits would take many times as much.
    pub fn baseline<'a>(
        &self,
        model: &'a Checkpoint,
        path: &Path,
        quiet: bool,
    ) -> Result<Baseline<'a>> {
        let loaded = self.load(&[model], None, quiet)?;
        // Streamed, so that the baseline holds no block in memory while others are made and run.
        let head = Streamed::open(model, &self.device)?;
        let reference = self.pass(&loaded, quiet, |pass| {
            Ok(Reference::new(loaded.networks()[0], head, pass, path)?)
        })?;
        Ok(Baseline {
            text: self.clone(),
            model,
            reference,
            costs: self.costs(&loaded)?.pop(),
        })
    }

    /// Runs something over the windows, with a bar that counts tokens.
    fn pass<T>(
        &self,
        loaded: &Loaded<'_>,
        quiet: bool,
        run: impl FnOnce(&Pass<'_>) -> Result<T>,
    ) -> Result<T> {
        let bar = progress::bar("scoring", self.windows.iter().map(Vec::len).sum(), quiet);
        let found = run(&Pass {
            windows: &self.windows,
            batch: loaded.batch(),
            split: self.split,
            done: &|tokens| bar.inc(tokens as u64),
        });
        bar.finish_and_clear();
        found
    }

    /// Refuses needles where the model does not fit in memory whole.
    pub fn check_needles(&self, model: &Checkpoint) -> Result<()> {
        ensure!(
            self.memory.holds(self.footprint(&[model], None).whole()),
            "--needles takes a model that is in memory whole; give more --memory"
        );
        Ok(())
    }

    /// Hides needles in prompts as long as a window, and asks for them.
    pub fn needles(&self, model: &Checkpoint, count: usize, quiet: bool) -> Result<Needles> {
        let loaded = self.load(&[model], None, quiet)?;
        let Loaded::Whole(decoders, _) = &loaded else {
            bail!("--needles takes models that are in memory whole; give more --memory");
        };
        let text = self.windows.concat();
        let length = self.protocol.context;
        let tokenizer = model.tokenizer()?;
        Ok(needles(&decoders[0], &tokenizer, &text, (length, count))?)
    }

    /// What the models cost to run; nothing of streamed ones.
    fn costs(&self, loaded: &Loaded<'_>) -> Result<Vec<Costs>> {
        let times = loaded.latency(self.prompt(), TIMED)?;
        let first = self.windows.first().map_or(&[][..], Vec::as_slice);
        let caches = self.split.map(|split| loaded.caches(first, split));
        let mut caches = caches.transpose()?.into_iter().flatten();
        let costs = times.into_iter().zip(loaded.device_bytes());
        let costs = costs.map(|(latency, device_bytes)| Costs {
            latency,
            device_bytes,
            cache: caches.next(),
        });
        Ok(costs.collect())
    }

    /// Refuses to begin what could not be measured in the end: so many models of this shape, an original and those made
    /// from it, have to fit, block by block at least.
    pub fn check_room(&self, original: &Checkpoint, models: usize) -> Result<()> {
        let need = self.footprint(&vec![original; models], None);
        ensure!(
            self.split.is_none() || self.memory.holds(need.whole()),
            "--split takes models that are in memory whole, {} in all, and {} may be used; give more --memory",
            report::size(need.whole()),
            report::size(self.memory.bytes())
        );
        loaded::batch(&need, self.memory).map(|_| ())
    }

    /// The predicted memory of running some models over the text; `reference` is an original of which only the head
    /// is run.
    fn footprint<'a>(
        &self,
        models: &[&'a Checkpoint],
        reference: Option<&'a Checkpoint>,
    ) -> ScoringFootprint<'a> {
        ScoringFootprint {
            models: models.iter().map(|model| Outline::of(model)).collect(),
            reference: reference.map(Outline::of),
            mixtures: self.mixtures,
            time: self.windows.iter().map(Vec::len).max().unwrap_or_default(),
            windows: self.windows.len(),
        }
    }

    /// Loads models for the windows of this text.
    fn load<'a>(
        &self,
        models: &[&'a Checkpoint],
        reference: Option<&Checkpoint>,
        quiet: bool,
    ) -> Result<Loaded<'a>> {
        let need = self.footprint(models, reference);
        Loaded::load(models, &need, self.memory, &self.device, quiet)
    }

    /// The tokens before those whose generation is timed: a prompt as windows have it, or at most 128.
    fn prompt(&self) -> &[u32] {
        // A window may be shorter: documents have the length that they have.
        let first = self.windows.first().map_or(&[][..], Vec::as_slice);
        let most = self.split.unwrap_or(128);
        first.get(..first.len().min(most)).unwrap_or_default()
    }

    /// The conditions, for people.
    pub fn title(&self) -> String {
        let Self {
            name,
            protocol,
            device_name,
            ..
        } = self;
        let cached = self.split.map_or_else(String::new, |split| {
            format!(", what follows {split} tokens")
        });
        format!("{name}, {protocol}{cached}, on {device_name}")
    }

    /// The conditions, for programs.
    pub fn describe(&self) -> serde_json::Value {
        let mut text = json!({
            "name": self.name,
            "context": self.protocol.context,
            "windows": self.windows.len(),
            "bos": self.protocol.bos || self.protocol.documents.is_some(),
            "documents": self.protocol.documents,
            "device": self.device_name,
        });
        if let Some(split) = self.split {
            text["split"] = split.into();
        }
        text
    }
}

impl Baseline<'_> {
    /// The original, and another model with its divergence from it; of the original only the head is run.
    pub fn compare(&self, other: &Checkpoint, quiet: bool) -> Result<(ModelReport, ModelReport)> {
        let loaded = self.text.load(&[other], Some(self.model), quiet)?;
        let mut found = self.text.pass(&loaded, quiet, |pass| {
            let original = Source::Reference(&self.reference);
            Ok(pass.compare(original, &loaded.networks())?)
        })?;
        let Scored { score, kl } = found.others.pop().context("nothing was compared")?;
        let costs = self.text.costs(&loaded)?.pop();
        Ok((
            ModelReport::new(self.model, found.original, None, self.costs)?,
            ModelReport::new(other, score, Some(kl), costs)?,
        ))
    }
}

/// Tokens of each window that are a prompt: as the arguments say, or half of it for a model that has a cache policy, which
/// shows only behind a prompt. Documents have no half that all share.
fn split(arguments: &Text, model: &Checkpoint, windows: &[Vec<u32>]) -> Result<Option<usize>> {
    let shortest = windows.iter().map(Vec::len).min().unwrap_or_default();
    let usual = model.cache_policy().map(|_| shortest / 2);
    if usual.is_some() && arguments.split.is_none() && arguments.documents.is_some() {
        tell!(
            "note: documents are scored without their cache policy, which shows behind a prompt: give --split"
        );
        return Ok(None);
    }
    let split = arguments.split.or(usual);
    if let Some(split) = split {
        ensure!(
            split >= 1 && split + 2 <= shortest,
            "--split {split} leaves nothing to score of a text of {shortest} tokens: at most {} leaves a token",
            shortest.saturating_sub(2)
        );
    }
    Ok(split)
}

/// Refuses tokens that the model has no embedding for.
fn check(windows: &[Vec<u32>], model: &Checkpoint) -> Result<()> {
    let vocabulary = model.config().vocabulary;
    let largest = windows.iter().flatten().max().copied().unwrap_or_default();
    ensure!(
        (largest as usize) < vocabulary,
        "{}: its tokenizer has the token {largest}, but config.json says `vocab_size` {vocabulary}",
        model.path().display()
    );
    Ok(())
}
