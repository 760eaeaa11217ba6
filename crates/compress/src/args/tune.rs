//! The options of `tune`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use compress_core::Format;
use compress_tune::{Trained, TrainingOptions};

use super::{Printing, Resources, Text, whole_number};

#[derive(Debug, Args)]
pub struct Tune {
    /// The compressed model: a directory that `run` wrote.
    #[arg(value_name = "MODEL")]
    pub model: String,

    /// The model that was compressed: what distillation learns from, and what divergence is measured
    /// from.
    #[arg(long, value_name = "ORIGINAL")]
    pub original: Option<String>,

    /// The text to train on; may be repeated. Not the text that the result is judged by!
    #[arg(long, value_name = "FILE", required = true)]
    pub corpus: Vec<PathBuf>,

    /// What is learnt: `distillation`, block after block what the original's blocks give, the fastest
    /// repair; or `language`, the next token through the whole model, best after it.
    #[arg(long, default_value = "language")]
    pub objective: Objective,

    /// What is trained, a list: `lrc`, the low-rank components; `atoms`, those that layers share (masa) and
    /// their coefficients, by the objective `language` only; `factors`, low-rank components and the
    /// weights that stayed whole; `norms`, the scales of the norms.
    #[arg(long, value_name = "LIST", default_value = "lrc")]
    pub train: Trained,

    /// Steps of the optimiser; for distillation, those of each block [default: two rounds of the corpus].
    #[arg(long, value_name = "N", value_parser = steps)]
    pub steps: Option<usize>,

    /// Windows per step, whose gradients are accumulated.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = batch)]
    pub batch: usize,

    /// Tokens per window [default: as --ctx, or 512].
    #[arg(long, value_name = "N")]
    pub train_ctx: Option<usize>,

    /// The largest learning rate; it rises over the first twentieth of the steps and falls as a cosine.
    #[arg(long, default_value_t = 1e-3, value_parser = positive)]
    pub rate: f64,

    /// Gradients longer than this are cut to it.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f64,

    /// Weight decay, as a fraction of the rate.
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub decay: f64,

    /// Windows at the ends of the texts that are held out to decide when to stop.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub held_out: usize,

    /// Steps between two looks at them; a killed training goes on from the last look, a distillation from
    /// the last block.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = at_least_one)]
    pub every: usize,

    /// Looks without a better loss after which training stops; the best is what is written.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub patience: usize,

    /// Decides the order of the windows.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Number format of all tensors: f32, f16 or bf16 [default: the model's own]. A coarse one swallows
    /// small changes.
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,

    /// The directory to write; it must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Replace the output, if it exists and is an earlier output or empty, and what another training
    /// to the same place has left.
    #[arg(long)]
    pub force: bool,

    /// Write the loss curve as JSON.
    #[arg(long, value_name = "FILE.json")]
    pub log: Option<PathBuf>,

    /// Draw the loss curve.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Don't run the models afterwards.
    #[arg(long)]
    pub no_evaluate: bool,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub printing: Printing,
}

fn steps(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=1_000_000_000)
}

fn batch(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=65_536)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "a whole number above 0".into())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = not_negative(text).ok().filter(|&number| number > 0.0);
    number.ok_or_else(|| "a number above 0".into())
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "a number of at least 0".into())
}

impl Tune {
    /// How to train on so many windows.
    pub fn options(&self, windows: usize) -> TrainingOptions {
        let steps = self.steps.unwrap_or(2 * windows.div_ceil(self.batch));
        TrainingOptions {
            trained: self.train,
            steps,
            batch: self.batch,
            rate: self.rate,
            warm_up: steps / 20,
            clip: self.clip,
            decay: self.decay,
            interval: self.every,
            patience: self.patience,
            seed: self.seed,
        }
    }
}

/// What training makes small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Objective {
    Language,
    Distillation,
}

impl Objective {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Distillation => "distillation",
        }
    }
}
