//! Jobs: all that a verb needs to know, whoever asks for it. Nothing here knows the command line.
//!
//! `args` makes them from what was typed, and `compare` completes those of its variants. `Planning` is enough for
//! `plan`; `Running` is that, and an output.

use std::path::PathBuf;

use bytesize::ByteSize;
use compress_calibrate::RefitTarget;
use compress_checkpoint::{Config, Selection};
use compress_core::{Budget, Format, Needs, Scheme};
use compress_models::{DeviceChoice, Mixtures};

use crate::memory::Memory;

/// Windows to calibrate on where the user says nothing.
pub const SAMPLES: usize = 64;

/// Tokens of the longest window that a calibration text is cut into: longer than all that models read.
pub const LONGEST: usize = 1 << 24;

/// Which model is to be compressed, how far, and by which measurements.
pub struct Planning {
    /// A path or hub id; the shipped model where absent.
    pub model: Option<String>,
    /// How far to go.
    pub target: Target,
    /// The weights that may be touched.
    pub selection: Selection,
    /// How the output is written.
    pub form: OutputForm,
    /// The text that methods measure on, and when.
    pub calibration: Calibration,
    /// Where to draw the plan.
    pub plot: Option<PathBuf>,
    /// What the run may take of the machine.
    pub machine: Machine,
    /// Tables or JSON, with or without progress.
    pub printing: Printing,
}

/// How far to go.
pub enum Target {
    /// To this budget; where there is none, as the method's own options say.
    Budget(Option<Budget>),
    /// To weight files of this size.
    Size(ByteSize),
    /// As this file says.
    Plan(PathBuf),
}

/// How an output is written.
#[derive(Clone, Copy)]
pub struct OutputForm {
    /// The format of all tensors, in place of the source's own.
    pub dtype: Option<Format>,
    /// How embedding and head are rounded, where they are to be.
    pub ends: Option<Scheme>,
    /// How low-rank factors are rounded, where they are to be.
    pub factors: Option<Scheme>,
    /// Whether factors are multiplied out again.
    pub dense: bool,
}

/// The text that measurements are taken on, and when they are taken.
#[derive(Clone)]
pub struct Calibration {
    /// The shipped one where absent, for the shipped model.
    pub text: Option<PathBuf>,
    /// How many windows of it.
    pub samples: Option<usize>,
    /// Tokens per window; as in the evaluation where absent.
    pub context: Option<usize>,
    /// Draws windows from all over the text; the first ones where absent.
    pub seed: Option<u64>,
    /// When measurements are taken, and on which model.
    pub order: Order,
    /// Where measurements are kept for further runs.
    pub evidence: Option<PathBuf>,
}

/// The order in which weights are measured and compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Refit where a method measures anything, else one shot.
    Usual,
    /// All weights at once, measured on the original.
    OneShot,
    /// Block after block, each behind the compressed blocks before it.
    Sequential,
    /// As `Sequential`, and each weight aims at what the original gives at its place.
    Refit,
}

/// How results are printed.
#[derive(Clone, Copy)]
pub struct Printing {
    /// As one JSON object, not as tables.
    pub json: bool,
    /// Without progress.
    pub quiet: bool,
}

/// A model to be compressed, written and run.
pub struct Running {
    /// The model, and how far it is to be compressed.
    pub planning: Planning,
    /// The directory to write.
    pub output: PathBuf,
    /// Whether an earlier output may be replaced.
    pub force: bool,
    /// Whether both models are run afterwards.
    pub evaluate: bool,
    /// The text that both models are run over.
    pub text: Text,
}

/// What a job may take of the machine.
#[derive(Clone, Copy)]
pub struct Machine {
    /// The memory of the host.
    pub memory: Memory,
    /// The device that models run on.
    pub device: DeviceChoice,
}

/// The text that models are scored on.
#[derive(Clone)]
pub struct Text {
    /// The shipped sample where absent.
    pub file: Option<PathBuf>,
    /// Tokens per window.
    pub context: Option<usize>,
    /// How many windows or documents at most; [`usize::MAX`] for all, a usual number where absent.
    pub windows: Option<usize>,
    /// Whether each window is led by BOS.
    pub bos: bool,
    /// The text between documents, where each is scored by itself.
    pub documents: Option<String>,
    /// Tokens of each window that are a prompt, where those after it are scored given what a cache holds of it.
    pub split: Option<usize>,
    /// What becomes of mixtures in the models that are run.
    pub mixtures: Mixtures,
}

impl Text {
    /// Tokens per window.
    pub fn context(&self, config: &Config) -> usize {
        self.context.unwrap_or(config.context.min(1024))
    }
}

impl Calibration {
    /// Takes from `other` what is not said here: in a comparison, what a variant says by itself comes first.
    pub fn complete(&mut self, other: &Self) {
        if self.order == Order::Usual {
            self.order = other.order;
        }
        let other = other.clone();
        self.text = self.text.take().or(other.text);
        self.samples = self.samples.or(other.samples);
        self.context = self.context.or(other.context);
        self.seed = self.seed.or(other.seed);
        self.evidence = self.evidence.take().or(other.evidence);
    }

    /// How many windows are asked for, and the tokens of each; `context` is the evaluation's.
    ///
    /// The text may have fewer: footprints are predicted from this, before it is read.
    pub fn windows(&self, context: Option<usize>, config: &Config) -> (usize, usize) {
        let trained = config.context.min(1024);
        let time = self.context.or(context).unwrap_or(trained);
        // One that is out of all reason is refused where the text is cut; predictions are made before, and multiply
        // by it.
        let time = time.clamp(1, LONGEST);
        (self.samples.unwrap_or(SAMPLES), time)
    }

    /// The target of weights behind compressed ones: none where all are compressed at once; with
    /// [`RefitTarget::Inputs`] (`--sequential`) a weight stays what it is and only what enters it is measured anew.
    pub fn refit(&self, needs: Needs) -> Option<RefitTarget> {
        match self.order {
            Order::Refit => Some(RefitTarget::Original),
            Order::Sequential => Some(RefitTarget::Inputs),
            // Methods that measure nothing have no targets to solve for, and would not see the difference.
            Order::Usual if needs != Needs::NOTHING => Some(RefitTarget::Original),
            Order::Usual | Order::OneShot => None,
        }
    }
}
