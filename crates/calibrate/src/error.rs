//! Errors of gathering evidence.

use std::path::{Path, PathBuf};

use compress_core::LayerInput;

/// The result of gathering evidence.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No windows, or of different lengths.
    #[error("windows of one length of at least 2 tokens are needed; {problem}")]
    Windows {
        /// The problem with them.
        problem: String,
    },

    /// An activation that is not a number.
    #[error(
        "{input}: an activation of calibration window {window} is NaN or infinite; the model is damaged, or overflows on this text"
    )]
    Activation {
        /// Where.
        input: LayerInput,
        /// Which window, from 0.
        window: usize,
    },

    /// A gradient that is not a number.
    #[error(
        "block {layer}: a gradient of calibration window {window} is NaN or infinite; the model is damaged, or overflows on this text"
    )]
    Gradient {
        /// Index of the block.
        layer: usize,
        /// Which window, from 0.
        window: usize,
    },

    /// A file of the store that cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// A file of the store that does not hold what it should.
    #[error("{}: {problem}; remove it, and it is made anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },

    /// A file of a model, or beside one, could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] compress_checkpoint::Error),
    /// The network failed.
    #[error(transparent)]
    Model(#[from] compress_models::Error),

    /// Linear algebra failed.
    #[error(transparent)]
    Core(#[from] compress_core::Error),

    /// Linear algebra, or packed integers.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, problem: &dyn ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.to_string(),
        }
    }
}
