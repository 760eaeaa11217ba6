//! Byte-level byte pair encoding, as GPT-2, Llama 3 and Qwen have it.
//!
//! A pre-tokenizer, named by `tokenizer.ggml.pre`, splits the text into words, which no merge
//! crosses. The bytes of a word, each written as a printable character, are then merged by the
//! rules in `tokenizer.ggml.merges`, in their order.

use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::refused;
use super::vocabulary::Vocabulary;
use super::words::Words;
use crate::metadata::needed;
use crate::{Error, Gguf, Value};

/// The key with the merge rules: two tokens with a space between them.
const MERGES: &str = "tokenizer.ggml.merges";

/// The tokenizer without its added tokens, and whether BOS comes first where the file does not say:
/// Llama 3 and Tekken have it, the others do not.
pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<(Tokenizer, bool), Error> {
    let words = Words::of(gguf)?;
    let rules = needed(
        MERGES,
        gguf.list(MERGES, "a list of strings", Value::as_str)?,
    )?;
    let tokenizer = assemble(words, vocabulary.ids(), rules)?;
    Ok((tokenizer, words.begun))
}

/// Qwen2's tokenizer without its added tokens, from ids and merge rules: two tokens with a space
/// between them.
pub fn qwen2<'r>(ids: Vocab, rules: impl IntoIterator<Item = &'r str>) -> Result<Tokenizer, Error> {
    assemble(Words::QWEN2, ids, rules)
}

/// The tokenizer of a vocabulary, its merge rules in the order of their priority, and its way to
/// split.
fn assemble<'r>(
    words: Words,
    ids: Vocab,
    rules: impl IntoIterator<Item = &'r str>,
) -> Result<Tokenizer, Error> {
    let merges: Merges = rules
        .into_iter()
        .map(|rule| pair(rule, &ids))
        .collect::<Result<_, _>>()?;
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(words.whole)
        .build()
        .map_err(refused)?;
    let mut tokenizer = Tokenizer::new(model);
    if words.composed {
        tokenizer.with_normalizer(Some(NFC)).map_err(refused)?;
    }
    tokenizer
        .with_pre_tokenizer(Some(words.pre_tokenizer()?))
        .with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// The two sides of a rule. Both and their concatenation must be tokens: the library panics at a
/// rule that leads outside the vocabulary.
fn pair(rule: &str, ids: &Vocab) -> Result<(String, String), Error> {
    match rule.split_once(' ') {
        Some((left, right))
            if [left, right, &[left, right].concat()]
                .iter()
                .all(|token| ids.contains_key(*token)) =>
        {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(Error::Merge {
            merge: rule.to_owned(),
        }),
    }
}
