//! The options of `align`.

use std::path::PathBuf;

use clap::Args;
use compress_align::Options;
use compress_core::{Budget, Format};

use super::{Model, Printing, Resources, Text, count, share};

#[derive(Debug, Args)]
pub struct Align {
    #[command(flatten)]
    pub model: Model,

    /// The fraction of the attention weights that is to stay when the output is compressed: residuals have what the atoms
    /// leave of it, and only what is beyond them is made alike.
    #[arg(long, value_name = "FRACTION", default_value_t = Budget::USUAL.fraction(), value_parser = share)]
    pub keep: f64,

    /// The groups of consecutive layers that are turned towards each other, of nearly equal length.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub groups: usize,

    /// Rounds at most; it ends by itself where one gains nothing.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = count)]
    pub rounds: usize,

    /// Number format of all tensors: f32, f16 or bf16 [default: the source's own; f16 for GGUF]. Turned weights are rounded
    /// to it once more.
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,

    /// The directory to write; it must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Replace the output, if it exists and is an earlier output or empty.
    #[arg(long)]
    pub force: bool,

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

impl Align {
    /// What decides the turns of a group of so many layers: of what stays, its atom takes one layer's share.
    pub fn options(&self, layers: usize) -> Options {
        Options {
            residual: (self.keep - (layers.max(1) as f64).recip()).max(0.0),
            rounds: self.rounds,
        }
    }
}
