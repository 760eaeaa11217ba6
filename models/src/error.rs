//! The errors of loading and running a network.

/// The result of loading and running a network.
pub type Result<T> = std::result::Result<T, Error>;

/// The causes for which a network cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint's files could not be read, or their contents do not fit its config.
    #[error(transparent)]
    Checkpoint(#[from] compress_checkpoint::Error),

    /// A weight with a NaN or an infinity in it, found while it is loaded.
    #[error("tensor `{name}` holds {value}; the model is damaged")]
    NonFinite {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The first such number.
        value: f32,
    },

    /// A weight that is larger than a buffer of the device can be.
    #[error(
        "`{name}` takes {bytes} bytes on the device, where no buffer has more than {most}; take --device cpu"
    )]
    Buffer {
        /// The tensor's name in the checkpoint.
        name: String,
        /// What it takes.
        bytes: usize,
        /// What a buffer can have.
        most: u64,
    },

    /// A token id that the embedding has no row for; often a tokenizer of another model.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token's id.
        token: u32,
        /// Tokens in the vocabulary: ids from 0 up to this, less one.
        vocabulary: usize,
    },

    /// Texts of different lengths, or of no token, which cannot form one batch.
    #[error("texts that run together need the same number of tokens, at least one")]
    Lengths,

    /// A device that does not answer, or that this program was built without.
    #[error("no {wanted}: {problem}")]
    Device {
        /// The kind of device that was asked for.
        wanted: &'static str,
        /// Why there is none, and how to get one.
        problem: &'static str,
    },

    /// The device failed while it computed, or while numbers were read back from it.
    #[error("the device failed: {problem}")]
    Execution {
        /// The device's own message.
        problem: String,
    },

    /// A factor whose parts do not fit each other.
    #[error(transparent)]
    Factor(#[from] compress_core::Error),

    /// An error of the linear algebra, or of packed integers.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),

    /// A cache policy that does not fit the network.
    #[error(transparent)]
    Policy(#[from] compress_think::Error),

    /// A cache policy that cannot be followed here.
    #[error("{problem}")]
    Cache {
        /// Why, and what to do.
        problem: &'static str,
    },
}
