//! The command line. Help texts, completions and documentation come from here.

mod methods;
mod tune;

use std::{ops::RangeInclusive, path::PathBuf};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use compress_calibrate::Aim;
use compress_checkpoint::Config;
use compress_core::{Bits, Budget, Format, Needs, Pattern, Scheme, Selection};
use compress_models::DeviceChoice;

use crate::{evidence::SAMPLES, memory::Memory};

pub use methods::{By, With};
pub use tune::{Objective, Tune};

/// Makes large language models smaller and shows what it cost.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The methods: what each does, needs and costs.
    Methods(Methods),
    /// What a model is made of: every weight's shape, bytes and singular spectrum.
    Inspect(Inspect),
    /// Decide what would be done, and what it would save; writes nothing.
    Plan {
        #[command(subcommand)]
        method: By<Planning>,
    },
    /// Plan, compress, write, and evaluate before and after.
    Run {
        #[command(subcommand)]
        method: By<Running>,
    },
    /// Several runs under one protocol, in one table and one picture.
    Compare(Compare),
    /// Train what compression has left of a model, most of it frozen: the strongest recovery after
    /// heavy cuts, for minutes to hours.
    Tune(Box<Tune>),
    /// Perplexity of a model on a text, and how far it is from an original.
    Evaluate(Evaluate),
    /// What is kept between runs: measurements that a run may find instead of taking them again.
    Cache(Cache),
    /// A completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub struct Methods {
    #[command(flatten)]
    pub printing: Printing,
}

/// Which model, and how far.
#[derive(Debug, Args)]
pub struct Planning {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub sites: Sites,
    #[command(flatten)]
    pub form: OutputForm,
    #[command(flatten)]
    pub calibration: Calibrating,

    /// Draw the plan: what every weight keeps, by block and role.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub printing: Printing,
}

/// The text that methods with an eye for data look at. Not the text that the result is judged by!
#[derive(Clone, Debug, Args)]
pub struct Calibrating {
    /// The text to calibrate on, for methods that need one; the one that ships with this program for
    /// the model that does.
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,

    /// How many windows of it [default: 64, or all there are if fewer].
    #[arg(long, value_name = "N", value_parser = samples)]
    pub samples: Option<usize>,

    /// Tokens per window [default: as in the evaluation].
    #[arg(long, value_name = "N", value_parser = context)]
    pub calibrate_ctx: Option<usize>,

    /// Draw the windows from all over the text, in a way that this number decides; the first ones
    /// where left out.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    #[command(flatten)]
    pub order: Order,

    /// Keep measurements in this folder, for further runs. Else a run measures what enters each weight
    /// when its turn comes, and keeps only what it must have before (`compress cache` lists that), and only
    /// until it is done.
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
}

impl Calibrating {
    /// Takes from `other` what is not said here.
    pub fn complete(&mut self, other: &Self) {
        let Self {
            calibrate,
            samples,
            calibrate_ctx,
            seed,
            order,
            evidence,
        } = other.clone();
        let Order {
            one_shot,
            sequential,
            refit,
        } = self.order;
        if !(one_shot || sequential || refit) {
            self.order = order;
        }
        self.calibrate = self.calibrate.take().or(calibrate);
        self.samples = self.samples.or(samples);
        self.calibrate_ctx = self.calibrate_ctx.or(calibrate_ctx);
        self.seed = self.seed.or(seed);
        self.evidence = self.evidence.take().or(evidence);
    }

    /// How many windows are asked for, and the tokens of each; `context` is the evaluation's.
    pub fn windows(&self, context: Option<usize>, config: &Config) -> (usize, usize) {
        let trained = config.context.min(1024);
        let time = self.calibrate_ctx.or(context).unwrap_or(trained);
        // One that is out of all reason is refused where the text is cut.
        let time = time.clamp(1, LONGEST);
        (self.samples.unwrap_or(SAMPLES), time)
    }

    /// What weights behind compressed ones aim at; none where all are compressed at once.
    pub fn aim(&self, needs: Needs) -> Option<Aim> {
        let Order {
            one_shot,
            sequential,
            refit,
        } = self.order;
        if refit || (needs != Needs::NOTHING && !one_shot && !sequential) {
            Some(Aim::Original)
        } else {
            sequential.then_some(Aim::Inputs)
        }
    }
}

/// Windows longer than all that models read.
const LONGEST: usize = 1 << 24;

fn samples(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=1_000_000_000)
}

fn context(text: &str) -> Result<usize, String> {
    whole_number(text, 2..=LONGEST)
}

/// A number within bounds, or in words what it should be.
fn whole_number(text: &str, bounds: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("a whole number from {} to {}", bounds.start(), bounds.end()))
}

/// In which order weights are measured and compressed [default: --refit for methods that measure].
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct Order {
    /// Measure once, on the original, and compress all weights at once: the fastest.
    #[arg(long)]
    pub one_shot: bool,

    /// Compress block after block, and measure each behind those that are compressed already. By
    /// itself it rarely helps: weights learn to work with damaged inputs, and pass the damage on.
    #[arg(long)]
    pub sequential: bool,

    /// As --sequential, and each weight aims at what the original gives at its place, so that it makes
    /// good for the cuts before it: two more passes, and by far the best. Methods that measure do so
    /// unless told otherwise.
    #[arg(long)]
    pub refit: bool,
}

#[derive(Debug, Args)]
pub struct Running {
    #[command(flatten)]
    pub planning: Planning,

    /// The directory to write; it must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Replace the output, if it exists and is an earlier output or empty, and the work directory of
    /// another run to the same place.
    #[arg(long)]
    pub force: bool,

    /// Don't run the models afterwards: faster, but what it cost stays unknown.
    #[arg(long)]
    pub no_evaluate: bool,

    #[command(flatten)]
    pub text: Text,
}

#[derive(Debug, Args)]
pub struct Model {
    /// A Hugging Face directory, a GGUF file, or a hub id such as org/name; the small model that
    /// ships with this program where left out.
    #[arg(value_name = "MODEL")]
    pub name: Option<String>,
}

/// How far to cut. At most one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Target {
    /// The fraction of the parameters of the chosen weights that stays, above 0 and at most 1
    /// [default: 0.8].
    #[arg(long, value_name = "FRACTION")]
    pub keep: Option<Budget>,

    /// The size that the weight files may have, such as 200MB or 1.5GiB.
    #[arg(long = "target-size", value_name = "BYTES")]
    pub size: Option<ByteSize>,

    /// A plan as `plan` prints it; methods with the same kind of steps take each other's.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "skip"])]
    pub plan: Option<PathBuf>,
}

/// Which weights.
#[derive(Debug, Args)]
pub struct Sites {
    /// Touch only these weights: a role (query key value output gate up down), a layer range such as
    /// 0-2, or a regular expression on module names; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<Pattern>,

    /// Leave these weights alone; patterns as for --only.
    #[arg(long, value_name = "PATTERN")]
    pub skip: Vec<Pattern>,
}

impl Sites {
    pub fn selection(&self) -> Selection {
        Selection {
            only: self.only.clone(),
            skip: self.skip.clone(),
        }
    }
}

/// How the result is written.
#[derive(Debug, Args)]
pub struct OutputForm {
    /// Number format of all tensors: f32, f16 or bf16 [default: the source's own; f16 for GGUF].
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,

    /// Round embedding and head too, to 8 bits and a scale per token: half of their bytes, which are
    /// most of a small model's. Where the embedding is the head as well, only this program reads that;
    /// else transformers does, too. vLLM reads no rounded embedding.
    #[arg(long, value_name = "BITS", value_parser = ["8"])]
    embedding_bits: Option<String>,

    /// Round the two factors of a low-rank pair to 8 bits and a scale per row: half of their bytes for
    /// next to no loss.
    #[arg(long, value_name = "BITS", value_parser = ["8"], conflicts_with = "dense")]
    factor_bits: Option<String>,

    /// Multiply the factors out again: loads anywhere without remote code, but saves no bytes.
    #[arg(long)]
    pub dense: bool,
}

/// 8 bits, and a scale for each row.
const ROWS: Scheme = Scheme::symmetric(Bits::Eight, None);

impl OutputForm {
    /// How embedding and head are rounded, where they are to be.
    pub fn tables(&self) -> Option<Scheme> {
        self.embedding_bits.as_ref().map(|_| ROWS)
    }

    /// How low-rank factors are rounded, where they are to be.
    pub fn factors(&self) -> Option<Scheme> {
        self.factor_bits.as_ref().map(|_| ROWS)
    }
}

#[derive(Debug, Args)]
pub struct Printing {
    /// One JSON object on stdout in place of tables.
    #[arg(long)]
    pub json: bool,

    /// No progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What a run may take of the machine.
#[derive(Clone, Copy, Debug, Args)]
pub struct Resources {
    /// How much memory may be used, such as 3GB or 1.5GiB. Models that do not fit whole are scored block by
    /// block [default: two thirds of what is free].
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
}

impl Resources {
    /// The memory that may be used.
    pub fn memory(self) -> Memory {
        Memory::new(self.memory)
    }
}

/// What is scored, and where.
#[derive(Clone, Debug, Args)]
pub struct Text {
    /// The text to score; the sample that ships with this program where left out.
    #[arg(long = "text", value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Tokens per window [default: the model's context, at most 1024].
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,

    /// How many windows (or documents) to score, or `all` [default: 64, or all there are if fewer].
    #[arg(long, value_name = "N")]
    pub windows: Option<Count>,

    /// Lead each window with a BOS token.
    #[arg(long)]
    pub bos: bool,

    /// Score each document by itself, led by BOS and cut at the context; the text between them.
    #[arg(long, value_name = "SEPARATOR")]
    pub documents: Option<String>,

    /// Where to run: auto (a real GPU if one answers, else the CPU), cpu, or wgpu.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// A number, or all.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    Exactly(usize),
    All,
}

impl std::str::FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count)) if count > 0 => Ok(Self::Exactly(count)),
            _ => Err("a number above 0, or `all`".into()),
        }
    }
}

#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub sites: Sites,
    /// Shapes and bytes only, without the singular spectra.
    #[arg(long)]
    pub no_spectra: bool,

    /// Compare with the original, as a check after tuning: how the effective ranks have changed, and
    /// how many of each weight's 10 largest singular vectors no original one explains (intruder
    /// dimensions: cosine below 0.6), which are paid for by what the model knew before.
    #[arg(long, value_name = "ORIGINAL", conflicts_with = "no_spectra")]
    pub against: Option<String>,

    /// Draw the spectra: σᵢ / σ₁ of every weight, a panel for each role.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "no_spectra")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Cache {
    /// Remove all of it that no run uses at the moment. Without this, what was used longest ago is
    /// removed as soon as all together take more than 10 GB.
    #[arg(long)]
    pub clear: bool,

    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Evaluate {
    #[command(flatten)]
    pub model: Model,

    /// The original, to measure the KL divergence from it.
    #[arg(long, value_name = "ORIGINAL")]
    pub against: Option<String>,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Compare {
    #[command(flatten)]
    pub model: Model,

    /// A TOML file with a table for each variant: `[name]`, `method = "svd"`, and any option of `run`
    /// by its name, such as `keep = 0.9` or `refit = true`.
    #[arg(value_name = "VARIANTS.toml")]
    pub variants: Option<PathBuf>,

    /// In place of a file: these methods at every fraction of --keep.
    #[arg(
        long,
        value_name = "METHOD,...",
        value_delimiter = ',',
        conflicts_with = "variants"
    )]
    pub methods: Vec<String>,

    /// The fractions that go with --methods.
    #[arg(
        long,
        value_name = "FRACTION,...",
        value_delimiter = ',',
        requires = "methods"
    )]
    pub keep: Vec<String>,

    /// Keep the models, each in a folder named after its variant, in this one.
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Draw perplexity against bytes.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub calibration: Calibrating,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub printing: Printing,
}
