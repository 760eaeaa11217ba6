//! Errors of an evaluation.

/// The result of an evaluation.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network failed.
    #[error(transparent)]
    Model(#[from] compress_models::Error),

    /// The states of a reference could not be kept.
    #[error(transparent)]
    States(#[from] compress_calibrate::Error),

    /// The text could not be tokenised.
    #[error("the text could not be tokenised: {problem}")]
    Tokeniser {
        /// In the tokenizer's words.
        problem: String,
    },

    /// A text that does not fill the windows asked for.
    #[error(
        "the text has {found} tokens, too few for {wanted}; give a longer text, or a smaller --ctx or --windows"
    )]
    TooShort {
        /// How many tokens there are.
        found: usize,
        /// The thing that was to be filled.
        wanted: String,
    },

    /// A protocol that cannot be followed.
    #[error("{problem}")]
    Protocol {
        /// Why.
        problem: String,
    },

    /// A logit that is NaN or infinite.
    #[error("window {window}, token {position}: the model gives logits that are not finite")]
    NonFinite {
        /// Index of the window, from 0.
        window: usize,
        /// Index of the token in it, from 0.
        position: usize,
    },

    /// Two models that do not share a vocabulary.
    #[error("the models have {original} and {other} tokens; a divergence needs one vocabulary")]
    Vocabulary {
        /// Of the original.
        original: usize,
        /// Of the other.
        other: usize,
    },
}
