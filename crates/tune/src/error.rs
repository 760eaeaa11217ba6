//! Errors of training.

use std::{io, path::PathBuf};

use thiserror::Error;

/// The cause.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing of the model would change.
    #[error(
        "there is nothing to train: the model has no low-rank component; compress it first, or train `factors` or `norms`"
    )]
    Nothing,

    /// The loss is no number any more, and never was lower than at the start.
    #[error(
        "the loss at step {step} is {loss}, and no state before was better than the start; try a lower --rate"
    )]
    Diverged {
        /// The step, counted from 0.
        step: usize,
        /// Its loss.
        loss: f64,
    },

    /// A journal that cannot be read.
    #[error("{} is damaged: {problem}; --force trains anew", path.display())]
    Damaged {
        /// Where it lies.
        path: PathBuf,
        /// The problem.
        problem: String,
    },

    /// The system refused.
    #[error("{}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// In walking through the model.
    #[error(transparent)]
    Calibrate(#[from] compress_calibrate::Error),

    /// A file of a model, or beside one, could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] compress_checkpoint::Error),
    /// In running the model.
    #[error(transparent)]
    Model(#[from] compress_models::Error),

    /// In scoring it.
    #[error(transparent)]
    Evaluate(#[from] compress_evaluate::Error),
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, problem: &dyn std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.to_string(),
        }
    }
}
