//! The vocabulary of a file: tokens by id, their types, and special ids.

use tokenizers::models::bpe::Vocab;
use tokenizers::{AddedToken, Tokenizer};

use super::refused;
use crate::metadata::needed;
use crate::{Error, Gguf, Value};

/// The key with the tokens, in the order of their ids.
const TOKENS: &str = "tokenizer.ggml.tokens";
/// The key with the type of each token.
const TYPES: &str = "tokenizer.ggml.token_type";

/// The token type of the unknown token; like control tokens it is special.
const UNKNOWN: u64 = 2;
/// The token type of BOS, EOS and other tokens that are no text.
const CONTROL: u64 = 3;
/// The token type of words that are matched before the text is split.
const USER_DEFINED: u64 = 4;

/// The tokens by id, and their types where the file has them.
pub(super) struct Vocabulary<'g> {
    tokens: Vec<&'g str>,
    types: Vec<u64>,
}

impl<'g> Vocabulary<'g> {
    /// Reads tokens and types. Fails where there are no tokens, more than 2³² − 1, or another
    /// number of types.
    pub(super) fn read(gguf: &'g Gguf) -> Result<Self, Error> {
        let tokens = needed(
            TOKENS,
            gguf.list(TOKENS, "a list of strings", Value::as_str)?,
        )?;
        let types = gguf
            .list(TYPES, "a list of whole numbers", Value::as_u64)?
            .unwrap_or_default();
        // Ids are 32 bits wide.
        if u32::try_from(tokens.len()).is_err() {
            return Err(Error::Vocabulary {
                key: TOKENS,
                tokens: tokens.len(),
            });
        }
        // Files without types are valid; a list of another length is not.
        if !types.is_empty() && types.len() != tokens.len() {
            return Err(Error::Vocabulary {
                key: TYPES,
                tokens: tokens.len(),
            });
        }
        Ok(Self { tokens, types })
    }

    /// The tokens in the order of their ids.
    pub(super) fn tokens(&self) -> &[&'g str] {
        &self.tokens
    }

    /// The id of each token; of equal tokens the last one's.
    pub(super) fn ids(&self) -> Vocab {
        (0..)
            .zip(&self.tokens)
            .map(|(id, token)| ((*token).to_owned(), id))
            .collect()
    }

    /// The token whose id is at `key`, with the id; none where the key is missing, an error where
    /// the id is outside the vocabulary.
    pub(super) fn at(
        &self,
        gguf: &Gguf,
        key: &'static str,
    ) -> Result<Option<(u32, &'g str)>, Error> {
        let Some(id) = gguf.whole(key)? else {
            return Ok(None);
        };
        match (u32::try_from(id), self.tokens.get(id)) {
            (Ok(id), Some(token)) => Ok(Some((id, token))),
            _ => Err(Error::Vocabulary {
                key,
                tokens: self.tokens.len(),
            }),
        }
    }

    /// Adds the tokens that are recognised in a text before it is split: control tokens as special
    /// ones, which decoding can skip, user-defined ones as ordinary text.
    pub(super) fn add_marked(&self, tokenizer: &mut Tokenizer) -> Result<(), Error> {
        let special = self
            .marked(&[UNKNOWN, CONTROL])
            .map(|token| AddedToken::from(token, true));
        tokenizer.add_special_tokens(special).map_err(refused)?;
        // Not normalized: the token is to match the text as it is, before spaces become `▁`.
        let ordinary = self
            .marked(&[USER_DEFINED])
            .map(|token| AddedToken::from(token, false).normalized(false));
        tokenizer.add_tokens(ordinary).map_err(refused)?;
        Ok(())
    }

    /// The tokens of some types, in the order of their ids.
    fn marked(&self, marks: &'static [u64]) -> impl Iterator<Item = &'g str> {
        self.tokens
            .iter()
            .zip(&self.types)
            .filter(|(_, mark)| marks.contains(mark))
            .map(|(token, _)| *token)
    }
}
