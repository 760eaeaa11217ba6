//! Trains the small model that ships with this repository.
//!
//! ```sh
//! cargo run --release -p compress-train -- STORIES.txt models/tiny --minutes 45
//! ```
//!
//! STORIES.txt holds stories separated by lines `<|endoftext|>`. The last fiftieth of them is held out; the
//! evaluation sample that ships comes from there. The model is written whenever the held-out loss is measured, so
//! that stopping early leaves one; a folder that holds a model is trained further.
//!
//! ```sh
//! cargo run --release -p compress-train -- from-scratch masa-qkv --seed 1 --steps 1000 --tokenizer MODEL -o RUN STORIES.txt…
//! cargo run --release -p compress-train -- figures RUNS --svg curves.svg
//! ```
//!
//! trains small models from nothing whose layers share attention weights in several ways ([`scratch`]), and tells what
//! such runs gave.

mod corpus;
mod folder;
mod schedule;
mod scratch;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, ensure};
use burn::{
    grad_clipping::GradientClippingConfig,
    module::{Module, ParamGroup},
    optim::{
        AdamWConfig, AdjustLrFn, GradientsAccumulator, GradientsParams, ModuleOptimizer, MuonConfig,
    },
    tensor::{Device, Int, Tensor, TensorData, activation::log_softmax},
};
use compress_checkpoint::Checkpoint;
use compress_evaluate::perplexity;
use compress_models::Decoder;
use compress_numerics::Random;

use crate::{corpus::Corpus, schedule::Schedule};

/// Windows per step; each of two threads takes half of them.
const BATCH: usize = 8;

/// Tokens per window.
const CONTEXT: usize = 256;

/// Steps between two measurements of the held-out loss.
const INTERVAL: usize = 250;

/// Windows that are held out.
const HELD_OUT: usize = 40;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, rest)) if verb == "from-scratch" => scratch::from_scratch(rest),
        Some((verb, rest)) if verb == "figures" => scratch::figures(rest),
        _ => shipped(arguments),
    }
}

/// Trains the model that ships.
fn shipped(arguments: Vec<String>) -> Result<()> {
    let mut arguments = arguments.into_iter();
    let mut next = |what: &str| {
        arguments.next().with_context(|| {
            format!("usage: compress-train STORIES.txt FOLDER --minutes N; {what} is missing")
        })
    };
    let (stories, folder) = (
        PathBuf::from(next("STORIES.txt")?),
        PathBuf::from(next("FOLDER")?),
    );
    ensure!(
        next("--minutes")? == "--minutes",
        "the third argument is --minutes"
    );
    let minutes: f64 = next("N")?.parse()?;
    let text = std::fs::read_to_string(&stories)
        .with_context(|| format!("cannot read {}", stories.display()))?;
    std::fs::create_dir_all(&folder)?;
    let corpus = Corpus::new(&text, &folder)?;
    // A model that is there already is trained further, more gently.
    let further = folder.join("model.safetensors").exists();
    if !further {
        folder::initialise(&folder)?;
    }
    train(&corpus, &folder, Schedule::new(minutes, further))
}

/// Trains the folder's model until the schedule's time is over.
fn train(corpus: &Corpus, folder: &std::path::Path, mut schedule: Schedule) -> Result<()> {
    let device = Device::flex().autodiff();
    let mut model = Decoder::load(&Checkpoint::open(folder)?, &device)?;
    let mut optimiser = optimiser();
    let (start, mut seen, mut random) = (Instant::now(), 0.0, Random(7));
    while let Some(rate) = schedule.rate() {
        let windows = (0..BATCH).map(|_| corpus.window(&mut random, CONTEXT + 1));
        let windows: Vec<&[u32]> = windows.collect();
        let (left, right) = windows.split_at(BATCH / 2);
        // A graph of its own for each thread: burn cannot walk back twice from shared parameters.
        let twin = model.clone().fork(&device);
        let (left, right) = rayon::join(|| gradients(&model, left), || gradients(&twin, right));
        let mut sum = GradientsAccumulator::new();
        for part in [left?, right?] {
            seen += part.0 / 2.0;
            sum.accumulate(&model, part.1);
        }
        model = optimiser.step(rate, model, sum.grads());
        schedule.advance();
        if schedule.step.is_multiple_of(INTERVAL) || schedule.finished() {
            folder::save(&model, folder)?;
            // Measured on the written file, whose numbers are `f16`.
            let written = Decoder::load(&Checkpoint::open(folder)?, &Device::flex())?;
            let held_out = corpus.held_out(CONTEXT, HELD_OUT);
            let held_out = perplexity(&written, &held_out, &|_| ())?.perplexity;
            let mean = seen / INTERVAL as f64;
            seen = 0.0;
            eprintln!(
                "step {:6}  {:5.1} min  rate {rate:.5}  loss {mean:.4}  held-out perplexity {held_out:.4}",
                schedule.step,
                start.elapsed().as_secs_f64() / 60.0
            );
        }
    }
    Ok(())
}

/// Muon for the weights of the blocks, `AdamW` for embedding and norms. Muon's orthogonalised updates have flat
/// spectra, and so do the weights that they add up to: a compressor finds no rank that is there for nothing.
// As is usual for language models: gradients are cut to length 1.
fn optimiser() -> ModuleOptimizer {
    let clipping = || GradientClippingConfig::Norm(1.0).init();
    // Muon's updates are scaled to the size of `AdamW`'s, so that one learning rate serves both.
    let muon = MuonConfig::new().with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW);
    let weights = ParamGroup::from_predicates(vec!["blocks.", ".weight"]);
    AdamWConfig::new()
        .with_beta_2(0.95)
        .with_weight_decay(0.0)
        .init()
        .with_grad_clipping(clipping())
        .with_group(weights, muon.build(), None)
}

/// Mean next-token loss of some windows, and half of its gradients: two such halves make a batch's mean.
fn gradients(model: &Decoder, windows: &[&[u32]]) -> Result<(f64, GradientsParams)> {
    let loss = loss(model, windows)?;
    let value = loss.clone().into_scalar::<f64>();
    let gradients = (loss / 2.0).backward();
    Ok((value, GradientsParams::from_grads(gradients, model)))
}

/// Mean next-token loss of windows of one length, each of which has a token more than the model reads.
fn loss(model: &Decoder, windows: &[&[u32]]) -> Result<Tensor<1>> {
    let inputs: Vec<&[u32]> = windows.iter().map(|w| &w[..w.len() - 1]).collect();
    let targets: Vec<i32> = windows
        .iter()
        .flat_map(|window| &window[1..])
        .map(|&token| token as i32)
        .collect();
    let count = targets.len();
    let hidden = model.hidden(&inputs)?;
    let width = hidden.dims()[2];
    let logits = model.logits(hidden.reshape([count, width]));
    let targets: Tensor<2, Int> =
        Tensor::from_data(TensorData::new(targets, [count, 1]), &logits.device());
    Ok(log_softmax(logits, 1).gather(1, targets).mean().neg())
}
