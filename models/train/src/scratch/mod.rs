//! MASA from scratch: small networks trained from nothing, whose layers share attention weights in several ways.
//!
//! ```text
//! W_l = Σ_s c_ls D_s      for query, key, value (and output) of all layers l; D and c trained jointly
//! ```
//!
//! One program for all ways: the same texts, tokens, schedule, optimiser and seeds, and the same numbers to start from
//! wherever two networks have a matrix in common. A run is a folder:
//!
//! ```text
//! RUN/run.json       what it is
//! RUN/state/         where it stands, until it is done
//! RUN/curve.csv      the losses so far
//! RUN/model/         the network, once it is done: `compress evaluate` and transformers load it
//! RUN/held_out.txt   the text that it is measured on
//! ```
//!
//! A run that was killed goes on from its last look at the held-out text, to the same bytes.
//!
//! # References
//!
//! *Share Your Attention: Transformer Weight Sharing via Matrix-based Dictionary Learning* (MASA), arXiv 2508.04581.

mod attention;
mod figures;
mod mixing;
mod output;
mod parts;
mod run;
mod student;
mod training;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use self::{attention::Size, run::Run};

/// Trains one network: `from-scratch ATTENTION --steps N --seed S --tokenizer FOLDER -o RUN TEXT…`.
pub fn from_scratch(arguments: &[String]) -> Result<()> {
    let [mut steps, mut seed, mut tokenizer, mut folder] = [const { None }; 4];
    let mut rest = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--steps" => &mut steps,
            "--seed" => &mut seed,
            "--tokenizer" => &mut tokenizer,
            "-o" => &mut folder,
            option if option.starts_with('-') => bail!("there is no option {option}"),
            text => {
                rest.push(text);
                continue;
            }
        };
        *place = arguments.next();
    }
    let missing = |what| {
        format!(
            "{what} is missing; usage: compress-train from-scratch ATTENTION --steps N --seed S --tokenizer FOLDER -o RUN TEXT…"
        )
    };
    let (attention, texts) = rest.split_first().with_context(|| missing("ATTENTION"))?;
    Run {
        attention: attention.parse()?,
        size: Size::USUAL,
        steps: steps.with_context(|| missing("--steps"))?.parse()?,
        seed: seed.with_context(|| missing("--seed"))?.parse()?,
        interval: 50,
        tokenizer: tokenizer.with_context(|| missing("--tokenizer"))?.into(),
        folder: folder.with_context(|| missing("-o"))?.into(),
    }
    .carry_out(&run::text(texts)?)
}

/// Tells what the runs in a folder gave: `figures RUNS [--svg FILE]`.
pub fn figures(arguments: &[String]) -> Result<()> {
    let usage = "usage: compress-train figures RUNS [--svg FILE.svg]";
    let (runs, svg) = match arguments {
        [runs] => (runs, None),
        [runs, option, svg] if option == "--svg" => (runs, Some(PathBuf::from(svg))),
        _ => bail!(usage),
    };
    figures::show(runs.as_ref(), svg.as_deref())
}
