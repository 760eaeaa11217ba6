//! Errors of an evaluation.

/// The result of an evaluation.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause; where input is to blame, the message says which.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A forward pass failed, or a block could not be loaded.
    #[error(transparent)]
    Model(#[from] compress_models::Error),

    /// The hidden states of a reference could not be written or read.
    #[error(transparent)]
    States(#[from] compress_calibrate::Error),

    /// The tokenizers library refused the text.
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
        /// The number of tokens in the text.
        found: usize,
        /// The windows that were to be filled.
        wanted: String,
    },

    /// A protocol that is contradictory or does not fit the model.
    #[error("{problem}")]
    Protocol {
        /// The contradiction.
        problem: String,
    },

    /// A logit that is NaN or infinite. The window is not skipped, since a figure without it would
    /// hide a broken model.
    #[error("window {window}, token {position}: the model gives logits that are not finite")]
    NonFinite {
        /// Index of the window, from 0.
        window: usize,
        /// Index of the token in it, from 0.
        position: usize,
    },

    /// Two models of different vocabularies, between which a divergence is not defined.
    #[error("the models have {original} and {other} tokens; a divergence needs one vocabulary")]
    Vocabulary {
        /// The vocabulary of the original.
        original: usize,
        /// The vocabulary of the other model.
        other: usize,
    },
}
