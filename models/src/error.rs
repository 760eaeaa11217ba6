//! Errors of loading and running a network.

/// The result of loading and running a network.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights could not be read.
    #[error(transparent)]
    Checkpoint(#[from] compress_checkpoint::Error),

    /// A weight with a NaN or an infinity in it.
    #[error("tensor `{name}` holds {value}; the model is damaged")]
    NonFinite {
        /// Its tensor.
        name: String,
        /// The number.
        value: f32,
    },

    /// A token that the embedding does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// How many tokens there are.
        vocabulary: usize,
    },

    /// Texts that cannot be run together.
    #[error("texts that run together need the same number of tokens, at least one")]
    Lengths,

    /// A device that is not there, or was not built in.
    #[error("no {wanted}: {problem}")]
    Device {
        /// The device that was asked for.
        wanted: &'static str,
        /// Why there is none, and what to do.
        problem: &'static str,
    },

    /// The device failed.
    #[error("the device failed: {problem}")]
    Execution {
        /// In its own words.
        problem: String,
    },

    /// Linear algebra, or packed integers.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),
}
