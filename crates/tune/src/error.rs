//! Errors of training.

use std::{io, path::PathBuf};

use thiserror::Error;

/// The causes for which a training fails.
#[derive(Debug, Error)]
pub enum Error {
    /// No matrix of the model is among those to be trained.
    #[error(
        "there is nothing to train: the model has no low-rank component in floats (rounded ones are not trained); compress it first, or train `factors` or `norms`"
    )]
    Nothing,

    /// Atoms whose numbers are codes.
    #[error("atoms are to be trained, and those of `{name}` are rounded; only floats are trained")]
    Rounded {
        /// The name of their tensors.
        name: String,
    },

    /// A distillation that is to train atoms.
    #[error(
        "atoms are of many blocks, and a distillation trains one at a time; take the objective `language`, or don't train `atoms`"
    )]
    ByBlock,

    /// Training diverged, and no state before was better than the start: there is nothing to write.
    #[error(
        "the loss at step {step} is {loss}, and no state before was better than the start; try a lower --rate"
    )]
    Diverged {
        /// The step, counted from 0.
        step: usize,
        /// Its loss, NaN or infinite.
        loss: f64,
    },

    /// A file of the journal that is damaged or lacks a tensor.
    #[error("{} is damaged: {problem}; --force trains anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A file or folder that cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },

    /// A pass through the model's blocks failed.
    #[error(transparent)]
    Calibrate(#[from] compress_calibrate::Error),

    /// A file of a model, or beside one, could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] compress_checkpoint::Error),
    /// The model could not be run, or the device failed.
    #[error(transparent)]
    Model(#[from] compress_models::Error),

    /// The held-out windows could not be scored.
    #[error(transparent)]
    Evaluate(#[from] compress_evaluate::Error),
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err`: an error of the system at a path.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// A damaged file, and what is wrong with it.
    pub(crate) fn damaged(path: impl Into<PathBuf>, problem: &dyn std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.to_string(),
        }
    }
}
