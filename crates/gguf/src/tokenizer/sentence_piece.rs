//! Byte pair encoding as `SentencePiece` has it, for Llama 1 and 2 and their descendants.
//!
//! Spaces become `▁`, one more is put before the text, and characters without a token fall back to
//! tokens of single bytes. A file has no merge rules but a score for each token: any two tokens
//! whose concatenation is a token may merge, and the pair whose result has the highest score merges
//! first.
//!
//! Cost: every token is split at every character, so building takes time linear in the total length
//! of the vocabulary, and a sort of the rules.

use std::cmp::Ordering;
use std::collections::HashMap;

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};

use super::refused;
use super::vocabulary::Vocabulary;
use crate::metadata::needed;
use crate::{Error, Gguf, Value};

/// The key with a score for each token.
const SCORES: &str = "tokenizer.ggml.scores";
/// The character that stands for a space, U+2581.
const SPACE: &str = "▁";

/// The tokenizer without its added tokens.
pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Tokenizer, Error> {
    // Files from before the key existed come from models with the prefix.
    let prefix = gguf
        .truth("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let unknown = vocabulary.at(gguf, "tokenizer.ggml.unknown_token_id")?;
    let model = model(
        vocabulary.ids(),
        vocabulary.tokens(),
        &scores(gguf, vocabulary)?,
        unknown.map(|(_, token)| token),
    )?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizer(prefix)?))
        .map_err(refused)?;
    tokenizer.with_decoder(Some(decoder(prefix)?));
    Ok(tokenizer)
}

/// The model of tokens with one score each, in the order of their ids; `ids` has the id of each.
/// The unknown token is used only where the vocabulary lacks the tokens of single bytes.
pub fn model(
    ids: Vocab,
    tokens: &[&str],
    scores: &[f64],
    unknown: Option<&str>,
) -> Result<BPE, Error> {
    let mut builder = BPE::builder()
        .vocab_and_merges(ids, merges(tokens, scores))
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown.to_owned());
    }
    builder.build().map_err(refused)
}

/// The scores, one for each token; an error where their number differs.
fn scores(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Vec<f64>, Error> {
    let scores = needed(
        SCORES,
        gguf.list(
            SCORES,
            "a list of finite floating-point numbers",
            Value::as_f64,
        )?,
    )?;
    let tokens = vocabulary.tokens().len();
    if scores.len() != tokens {
        return Err(Error::Vocabulary {
            key: SCORES,
            tokens,
        });
    }
    Ok(scores)
}

/// Every split of a token into two others, in the order in which transformers converts such a
/// vocabulary: by score of the result, highest first, then by length of the left and right part,
/// then by ids.
fn merges(tokens: &[&str], scores: &[f64]) -> Merges {
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id))
        .collect();
    let mut rules = Vec::new();
    for (id, (token, score)) in tokens.iter().zip(scores).enumerate() {
        // The first index is 0, where the left part would be empty.
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                rules.push(Rule {
                    score: *score,
                    left,
                    right,
                    ids: [id, l, r],
                });
            }
        }
    }
    rules.sort_by(Rule::order);
    rules
        .into_iter()
        .map(|rule| (rule.left.to_owned(), rule.right.to_owned()))
        .collect()
}

/// A pair of tokens that may merge.
struct Rule<'t> {
    /// The score of the result.
    score: f64,
    left: &'t str,
    right: &'t str,
    /// The ids of the result, of the left and of the right token.
    ids: [usize; 3],
}

impl Rule<'_> {
    /// The order of priority. `total_cmp`, since a sort needs a total order.
    fn order(&self, other: &Self) -> Ordering {
        // In characters, as Python counts them.
        let lengths = |rule: &Self| (rule.left.chars().count(), rule.right.chars().count());
        let by_score = other.score.total_cmp(&self.score);
        by_score
            .then_with(|| lengths(other).cmp(&lengths(self)))
            .then_with(|| self.ids.cmp(&other.ids))
    }
}

/// Puts `▁` before the text, where there is a prefix, and in place of spaces.
pub fn normalizer(prefix: bool) -> Result<NormalizerWrapper, Error> {
    let spaces = Replace::new(" ", SPACE).map_err(refused)?.into();
    let steps = if prefix {
        vec![Prepend::new(SPACE.to_owned()).into(), spaces]
    } else {
        vec![spaces]
    };
    Ok(Normalizers::new(steps).into())
}

/// The inverse of the normalizer: bytes are joined to characters, `▁` becomes a space, and the
/// space before the text is removed.
pub fn decoder(prefix: bool) -> Result<DecoderWrapper, Error> {
    let spaces = Replace::new(SPACE, " ").map_err(refused)?.into();
    let mut steps = vec![spaces, ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps).into())
}
