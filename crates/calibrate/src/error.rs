//! Errors of gathering evidence.

use std::path::{Path, PathBuf};

use compress_core::LayerInput;

/// The result of gathering evidence.
pub type Result<T> = std::result::Result<T, Error>;

/// The causes for which evidence cannot be gathered, kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No windows, or windows of different lengths, or of less than two tokens, which have no next token to predict.
    #[error("windows of one length of at least 2 tokens are needed; {problem}")]
    Windows {
        /// How many there are, and how long.
        problem: String,
    },

    /// An activation that is NaN or infinite: sums with it would be worth nothing.
    #[error(
        "{input}: an activation of calibration window {window} is NaN or infinite; the model is damaged, or overflows on this text"
    )]
    Activation {
        /// The layer input at which it was found.
        input: LayerInput,
        /// Index of the window in the calibration text, from 0.
        window: usize,
    },

    /// A logit of the logit lens that is NaN or infinite.
    #[error(
        "block {layer}: what the head makes of calibration window {window} before or behind it is NaN or infinite; the model is damaged, or overflows on this text"
    )]
    Lens {
        /// Index of the block.
        layer: usize,
        /// Index of the window in the calibration text, from 0.
        window: usize,
    },

    /// A gradient that is NaN or infinite, by the residual stream.
    #[error(
        "block {layer}: a gradient of calibration window {window} is NaN or infinite; the model is damaged, or overflows on this text"
    )]
    Gradient {
        /// Index of the block before which it was found; that of the last plus one for the loss itself.
        layer: usize,
        /// Index of the window in the calibration text, from 0.
        window: usize,
    },

    /// A file of the store, or of a pass's states, that cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },

    /// A file of the store that is damaged, or lacks a tensor; removing it costs a new measurement only.
    #[error("{}: {problem}; remove it, and it is made anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A file of a model, or beside one, could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] compress_checkpoint::Error),
    /// The network could not be loaded or run.
    #[error(transparent)]
    Model(#[from] compress_models::Error),

    /// An operation on matrices failed.
    #[error(transparent)]
    Core(#[from] compress_core::Error),

    /// An error of the linear algebra, or of packed integers.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),
}

impl Error {
    /// For `map_err`: an error of the system at a path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// A damaged file, and what is wrong with it.
    pub(crate) fn damaged(path: &Path, problem: &dyn ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.to_string(),
        }
    }
}
