//! The options of `plan` and `run` that do not depend on the method.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use bytesize::ByteSize;
use clap::Args;
use compress_checkpoint::{Pattern, Selection};
use compress_core::{Bits, Budget, Format, Scheme};

use super::{Model, Printing, Resources, Text, whole_number};
use crate::job;

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
    pub form: Form,
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

/// The text that data-aware methods measure on. Not the text that the result is judged by!
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

fn samples(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=1_000_000_000)
}

fn context(text: &str) -> Result<usize, String> {
    whole_number(text, 2..=job::LONGEST)
}

/// In which order weights are measured and compressed [default: --refit for methods that measure].
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct Order {
    /// Measure once, on the original, and compress all weights at once: the fastest.
    #[arg(long)]
    pub one_shot: bool,

    /// Compress block after block, and measure each behind those that are compressed already. By
    /// itself it rarely helps: each weight is fitted to damaged inputs, and passes the damage on.
    #[arg(long)]
    pub sequential: bool,

    /// As --sequential, and each weight is first replaced by the one that gives, from damaged inputs, most nearly
    /// what the original gives there (least squares), so that it makes good for the cuts before it: two more
    /// passes, and by far the best. Methods that measure do so unless told otherwise.
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

/// How the result is written.
#[derive(Debug, Args)]
pub struct Form {
    /// Number format of all tensors: f32, f16 or bf16 [default: the source's own; f16 for GGUF].
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,

    /// Round embedding and head too, to 8 bits and a scale per token: half of their bytes, which are
    /// most of a small model's. vLLM reads no rounded embedding, and transformers some: 5 where blocks are
    /// rounded alike or not at all, 4.57 where the embedding is not the head as well.
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

impl Planning {
    /// The job that is meant. A method whose size is decided by options of its own says so in `size_decided_by`.
    pub fn job(&self, method: &str, size_decided_by: Option<&str>) -> Result<job::Planning> {
        let Target { keep, size, plan } = &self.target;
        let budgeted = size_decided_by.is_none();
        ensure!(
            budgeted || (keep.is_none() && size.is_none()),
            "{method} takes no --keep and no --target-size: {} decide the size",
            size_decided_by.unwrap_or_default()
        );
        let usual = budgeted.then_some(Budget::USUAL);
        let target = match (plan, size) {
            (Some(path), _) => job::Target::Plan(path.clone()),
            (None, Some(size)) => job::Target::Size(*size),
            (None, None) => job::Target::Budget(keep.or(usual)),
        };
        Ok(job::Planning {
            model: self.model.name.clone(),
            target,
            selection: self.sites.selection(),
            form: self.form.job(),
            calibration: self.calibration.job(),
            plot: self.plot.clone(),
            machine: self.resources.job(),
            printing: self.printing.job(),
        })
    }
}

impl Running {
    /// The job that is meant.
    pub fn job(&self, method: &str, size_decided_by: Option<&str>) -> Result<job::Running> {
        Ok(job::Running {
            planning: self.planning.job(method, size_decided_by)?,
            output: self.output.clone(),
            force: self.force,
            evaluate: !self.no_evaluate,
            text: self.text.job(),
        })
    }
}

impl Calibrating {
    /// How the calibration text is read, and used.
    pub fn job(&self) -> job::Calibration {
        let Order {
            one_shot,
            sequential,
            refit,
        } = self.order;
        job::Calibration {
            text: self.calibrate.clone(),
            samples: self.samples,
            context: self.calibrate_ctx,
            seed: self.seed,
            order: match (one_shot, sequential, refit) {
                (true, ..) => job::Order::OneShot,
                (_, true, _) => job::Order::Sequential,
                (.., true) => job::Order::Refit,
                _ => job::Order::Usual,
            },
            evidence: self.evidence.clone(),
        }
    }
}

impl Sites {
    /// The sites that they name.
    pub fn selection(&self) -> Selection {
        Selection {
            only: self.only.clone(),
            skip: self.skip.clone(),
        }
    }
}

impl Form {
    fn job(&self) -> job::OutputForm {
        job::OutputForm {
            dtype: self.dtype,
            ends: self.embedding_bits.as_ref().map(|_| ROWS),
            factors: self.factor_bits.as_ref().map(|_| ROWS),
            dense: self.dense,
        }
    }
}
