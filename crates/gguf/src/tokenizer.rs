//! The tokenizer in the metadata, rebuilt as a Hugging Face tokenizer with the same output.
//!
//! There are two kinds, by `tokenizer.ggml.model`: [`byte_level`] for `gpt2`, [`sentence_piece`]
//! for `llama`. Both are byte pair encodings; they differ in how text becomes symbols and in where
//! the merge rules come from. Control tokens are recognised in text as special ones, user-defined
//! tokens as ordinary ones, and where the file asks for it, encoding with special tokens begins
//! with BOS or ends with EOS.

pub mod byte_level;
pub mod sentence_piece;
pub mod template;
mod vocabulary;
mod words;

use tokenizers::Tokenizer;

use self::vocabulary::Vocabulary;
use crate::metadata::needed;
use crate::{Error, Gguf};

/// The key with the kind of tokenizer.
const MODEL: &str = "tokenizer.ggml.model";

/// Rebuilds the tokenizer from the metadata.
///
/// Fails where a key that it needs is missing or malformed, where the model or the pre-tokenizer is
/// not a known one (the error lists those), and where the tokenizers library refuses the
/// vocabulary, which no known file provokes.
///
/// # References
/// Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units, 2016.
pub fn tokenizer(gguf: &Gguf) -> Result<Tokenizer, Error> {
    let vocabulary = Vocabulary::read(gguf)?;
    let model = needed(MODEL, gguf.text(MODEL)?)?;
    let (mut tokenizer, by_default) = match model {
        "gpt2" => byte_level::build(gguf, &vocabulary)?,
        // `SentencePiece` models begin with BOS unless the file says otherwise.
        "llama" => (sentence_piece::build(gguf, &vocabulary)?, true),
        _ => {
            return Err(Error::UnknownTokenizer {
                key: MODEL,
                name: model.to_owned(),
                known: "gpt2, llama".to_owned(),
            });
        }
    };
    template::add(&mut tokenizer, gguf, &vocabulary, by_default)?;
    // After the model is complete: added tokens that are in the vocabulary keep their ids.
    vocabulary.add_marked(&mut tokenizer)?;
    Ok(tokenizer)
}

/// What to tell people about the tokenizer that [`tokenizer()`] rebuilds; nothing where there is no
/// doubt.
pub(crate) fn warning(gguf: &Gguf) -> Result<Option<String>, Error> {
    match gguf.text(MODEL)? {
        Some("gpt2") => words::warning(gguf),
        _ => Ok(None),
    }
}

/// Keeps an error of the tokenizers library as text.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn refused(reason: impl ToString) -> Error {
    Error::Tokenizer {
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_library_says_is_kept() {
        assert_eq!(
            super::refused("no").to_string(),
            "the tokenizer cannot be built: no"
        );
    }
}
