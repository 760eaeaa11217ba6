//! The command line. Help texts, completions and documentation come from here.

mod cache;
mod methods;
mod options;
mod planning;
mod scoring;
mod tune;

use std::{ops::RangeInclusive, path::PathBuf};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use compress_models::DeviceChoice;

use crate::{job, memory::Memory};

pub use cache::{Generate, Think};
pub use methods::{ABOUT, About, By, Work};
pub use planning::{Calibrating, Planning, Running, Sites};
pub use scoring::{Sharing, Text};
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
        method: RunMethod,
    },
    /// Several runs under one protocol, in one table and one picture.
    Compare(Compare),
    /// Fill tables and pictures of Markdown files from records of comparisons.
    Report(Report),
    /// Train what compression has left of a model, most of it frozen: the strongest recovery after
    /// heavy cuts, for minutes to hours.
    Tune(Box<Tune>),
    /// Perplexity of a model on a text, and how far it is from an original.
    Evaluate(Evaluate),
    /// Go on with a text, or answer as in a conversation.
    Generate(Box<Generate>),
    /// What is kept between runs: measurements that a run may find instead of taking them again.
    Cache(Cache),
    /// What this program finds on this machine: processor, memory, devices, caches, and the settings of the hub; no
    /// secret is printed.
    Doctor(Doctor),
    /// A completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// What `run` may do: change weights by a method, or what is kept of keys and values.
#[derive(Debug, Subcommand)]
pub enum RunMethod {
    #[command(flatten)]
    Weights(Box<By<Running>>),
    /// ThinK: a thinner key-value cache. The model is written as it is, with a policy beside it that `generate` and
    /// `evaluate` follow.
    Think(Box<Think>),
}

#[derive(Debug, Args)]
pub struct Methods {
    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// One JSON object on stdout in place of tables.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Model {
    /// A Hugging Face directory, a GGUF file, or a hub id such as org/name; the small model that
    /// ships with this program where left out.
    #[arg(value_name = "MODEL")]
    pub name: Option<String>,
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

    /// Where models run: auto (a real GPU if one answers, else the CPU), cpu, or wgpu. Decompositions and rounding
    /// are done on the CPU.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

impl Resources {
    /// The memory and the device that may be used.
    pub fn job(self) -> job::Machine {
        job::Machine {
            memory: Memory::new(self.memory),
            device: self.device,
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

    /// What the key-value cache keeps of a prompt: the file of a policy, as `run think` writes it, or `none` for all of
    /// it [default: the policy beside the model's weights, if there is one].
    #[arg(long, value_name = "POLICY.json|none")]
    pub cache: Option<PathBuf>,

    /// Also hide N needles, a sentence with a number each, in prompts of the text as long as a window, and ask for them
    /// behind the prompt: what a cache policy has lost.
    #[arg(long, value_name = "N", value_parser = count)]
    pub needles: Option<usize>,

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

    /// Draw perplexity against bits per weight of the blocks, or against the bytes of a cache.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    #[command(flatten)]
    pub text: Text,

    /// A second text that all are scored on, cut as the first; such as one from another domain than
    /// the calibration text.
    #[arg(long, value_name = "FILE")]
    pub also_text: Option<PathBuf>,

    #[command(flatten)]
    pub calibration: Calibrating,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub printing: Printing,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Markdown files. A line `<!-- record: FILE.json -->`, with FILE.json what `compare --json` has
    /// printed, begins what is made anew, `<!-- end of record -->` ends it.
    #[arg(value_name = "FILE.md", required = true)]
    pub files: Vec<PathBuf>,

    /// Write nothing; the exit status is 1 where a file is not what its records say.
    #[arg(long)]
    pub check: bool,
}

impl Printing {
    /// How results are printed.
    pub const fn job(&self) -> job::Printing {
        job::Printing {
            json: self.json,
            quiet: self.quiet,
        }
    }
}

/// A number of things, at least one.
fn count(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=1_000_000)
}

/// A fraction above 0 and at most 1.
fn share(text: &str) -> Result<f64, String> {
    fraction(text, |x| x > 0.0 && x <= 1.0).ok_or_else(|| "a number above 0, and at most 1".into())
}

/// A number that a condition holds for; none is NaN or infinite.
fn fraction(text: &str, right: impl Fn(f64) -> bool) -> Option<f64> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|x| x.is_finite() && right(*x))
}

/// A number within bounds, or in words what it should be.
fn whole_number(text: &str, bounds: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("a whole number from {} to {}", bounds.start(), bounds.end()))
}
