//! The tokens of a file, their marks, and the ids that play a part.

use tokenizers::models::bpe::Vocab;
use tokenizers::{AddedToken, Tokenizer};

use super::refused;
use crate::metadata::needed;
use crate::{Error, Gguf, Value};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Marks of `tokenizer.ggml.token_type`.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// The tokens by id, and the mark of each where the file has them.
pub(super) struct Vocabulary<'g> {
    tokens: Vec<&'g str>,
    types: Vec<u64>,
}

impl<'g> Vocabulary<'g> {
    pub(super) fn read(gguf: &'g Gguf) -> Result<Self, Error> {
        let tokens = needed(
            TOKENS,
            gguf.list(TOKENS, "a list of strings", Value::as_str)?,
        )?;
        let types = gguf
            .list(TYPES, "a list of whole numbers", Value::as_u64)?
            .unwrap_or_default();
        if u32::try_from(tokens.len()).is_err() {
            return Err(Error::Vocabulary {
                key: TOKENS,
                tokens: tokens.len(),
            });
        }
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

    /// The id of each token.
    pub(super) fn ids(&self) -> Vocab {
        (0..)
            .zip(&self.tokens)
            .map(|(id, token)| ((*token).to_owned(), id))
            .collect()
    }

    /// The token whose id is at `key`, and the id, if there is one.
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

    /// Has a tokenizer recognise the marked tokens in text before it cuts the rest up.
    pub(super) fn add_marked(&self, tokenizer: &mut Tokenizer) -> Result<(), Error> {
        let special = self
            .marked(&[UNKNOWN, CONTROL])
            .map(|token| AddedToken::from(token, true));
        tokenizer.add_special_tokens(special).map_err(refused)?;
        let ordinary = self
            .marked(&[USER_DEFINED])
            .map(|token| AddedToken::from(token, false).normalized(false));
        tokenizer.add_tokens(ordinary).map_err(refused)?;
        Ok(())
    }

    fn marked(&self, marks: &'static [u64]) -> impl Iterator<Item = &'g str> {
        self.tokens
            .iter()
            .zip(&self.types)
            .filter(|(_, mark)| marks.contains(mark))
            .map(|(token, _)| *token)
    }
}
