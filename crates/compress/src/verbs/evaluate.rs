//! `compress evaluate MODEL`: run a model over a text, alone or beside its original.

use anyhow::{Context as _, Result, ensure};
use compress_checkpoint::Checkpoint;
use compress_evaluate::{Comparison, Protocol, compare, latency, perplexity};
use compress_models::Decoder;
use serde_json::json;

use crate::{
    Outcome,
    args::{Count, Evaluate, Text},
    model::Opened,
    progress,
    report::{self, Measured},
    shipped, text,
};

/// Windows that are scored where the user says nothing.
const WINDOWS: usize = 64;

/// Tokens that are generated to time them; the median of so many is past what other programs do.
const TIMED: usize = 64;

pub fn run(job: &Evaluate) -> Result<Outcome> {
    let quiet = job.printing.quiet;
    let model = Opened::open(job.model.name.as_deref(), quiet)?;
    let original = job
        .against
        .as_deref()
        .map(|name| Opened::open(Some(name), quiet))
        .transpose()?;
    let text = Prepared::new(&job.text, &model.checkpoint)?;
    let measured = match &original {
        Some(original) => {
            text.compare(&original.checkpoint, &model.checkpoint, quiet)?
                .1
        }
        None => text.score(&model.checkpoint, quiet)?,
    };
    if job.printing.json {
        let mut json = serde_json::to_value(&measured)?;
        json["model"] = model.name.into();
        json["text"] = text.describe();
        return report::print(json).map(|()| Outcome::Kept);
    }
    report::print(format_args!("{}: {}", model.name, text.title()))?;
    report::print(report::single(&measured))?;
    Ok(Outcome::Kept)
}

/// A text, cut and ready to be scored.
pub struct Prepared {
    name: String,
    protocol: Protocol,
    windows: Vec<Vec<u32>>,
    device: compress_models::Device,
    device_name: String,
}

impl Prepared {
    /// Reads and cuts the text as the arguments say, with the tokenizer of `model`.
    pub fn new(arguments: &Text, model: &Checkpoint) -> Result<Self> {
        let (name, text) = match &arguments.file {
            Some(path) => (path.display().to_string(), text::read(path)?),
            None => ("shipped sample".to_owned(), shipped::SAMPLE.to_owned()),
        };
        let config = model.config();
        let protocol = Protocol {
            context: arguments.ctx.unwrap_or(config.context.min(1024)),
            windows: arguments.windows.and_then(|count| match count {
                Count::Exactly(count) => Some(count),
                Count::All => None,
            }),
            bos: arguments.bos,
            documents: arguments.documents.clone(),
        };
        let most = arguments.windows.map_or(WINDOWS, |_| usize::MAX);
        let cut = protocol.cut_at_most(most, &text, &model.tokenizer()?, config.bos);
        let windows = cut.with_context(|| format!("cannot score {name}"))?;
        check(&windows, model)?;
        if protocol.context > config.context {
            let (asked, trained) = (protocol.context, config.context);
            eprintln!("warning: windows of {asked} tokens, but the model was made for {trained}");
        }
        let protocol = Protocol {
            windows: Some(windows.len()),
            ..protocol
        };
        let (device, device_name) = arguments.device.open()?;
        Ok(Self {
            name,
            protocol,
            windows,
            device,
            device_name,
        })
    }

    /// Perplexity of one model.
    pub fn score(&self, model: &Checkpoint, quiet: bool) -> Result<Measured> {
        let decoder = Decoder::load(model, &self.device)?;
        let bar = progress::bar("scoring", self.windows.iter().map(Vec::len).sum(), quiet);
        let score = perplexity(&decoder, &self.windows, &|tokens| bar.inc(tokens as u64))?;
        bar.finish_and_clear();
        let latency = latency(&[&decoder], self.prompt(), TIMED)?.pop();
        Ok(Measured {
            score,
            bytes: model.file_bytes(),
            parameters: model.parameters(),
            kl: None,
            latency,
        })
    }

    /// Both models, the second with its divergence from the first.
    pub fn compare(
        &self,
        original: &Checkpoint,
        other: &Checkpoint,
        quiet: bool,
    ) -> Result<(Measured, Measured)> {
        let decoders = [
            Decoder::load(original, &self.device)?,
            Decoder::load(other, &self.device)?,
        ];
        let bar = progress::bar("scoring", self.windows.iter().map(Vec::len).sum(), quiet);
        let done = |tokens| bar.inc(tokens as u64);
        let Comparison {
            original: before,
            other: after,
            kl,
        } = compare(&decoders[0], &decoders[1], &self.windows, &done)?;
        bar.finish_and_clear();
        let mut times = latency(&[&decoders[0], &decoders[1]], self.prompt(), TIMED)?.into_iter();
        let mut measured = |model: &Checkpoint, score, kl| Measured {
            score,
            bytes: model.file_bytes(),
            parameters: model.parameters(),
            kl,
            latency: times.next(),
        };
        let before = measured(original, before, None);
        Ok((before, measured(other, after, Some(kl))))
    }

    /// The tokens before those whose generation is timed.
    fn prompt(&self) -> &[u32] {
        let first = self.windows.first().map_or(&[][..], Vec::as_slice);
        first.get(..first.len().min(128)).unwrap_or_default()
    }

    /// The conditions, for people.
    pub fn title(&self) -> String {
        format!("{}, {}, on {}", self.name, self.protocol, self.device_name)
    }

    /// The conditions, for programs.
    pub fn describe(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "context": self.protocol.context,
            "windows": self.windows.len(),
            "bos": self.protocol.bos || self.protocol.documents.is_some(),
            "documents": self.protocol.documents,
            "device": self.device_name,
        })
    }
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
