//! Byte pair encoding as `SentencePiece` has it, for Llama 1 and 2 and what descends from them.
//!
//! Spaces become `▁`, one more is put before the text, and what no token covers falls back to
//! tokens of single bytes. A file has no merge rules but a score for each token: any two tokens
//! that together are a token may merge, and the one with the highest score merges first.

use std::cmp::Ordering;
use std::collections::HashMap;

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};

use super::refused;
use super::vocabulary::Vocabulary;
use crate::metadata::needed;
use crate::{Error, Gguf, Value};

const SCORES: &str = "tokenizer.ggml.scores";
const SPACE: &str = "▁";

/// The tokenizer without its marked tokens.
pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Tokenizer, Error> {
    let prefix = gguf
        .truth("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let mut builder = BPE::builder()
        .vocab_and_merges(
            vocabulary.ids(),
            merges(vocabulary.tokens(), &scores(gguf, vocabulary)?),
        )
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some((_, unknown)) = vocabulary.at(gguf, "tokenizer.ggml.unknown_token_id")? {
        builder = builder.unk_token(unknown.to_owned());
    }
    let mut tokenizer = Tokenizer::new(builder.build().map_err(refused)?);
    tokenizer
        .with_normalizer(Some(normalizer(prefix)?))
        .map_err(refused)?;
    tokenizer.with_decoder(Some(decoder(prefix)?));
    Ok(tokenizer)
}

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

/// Every way to make a token of two others: best score first, then the longer left and right part,
/// then the lower ids, as transformers orders them.
fn merges(tokens: &[&str], scores: &[f64]) -> Merges {
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id))
        .collect();
    let mut rules = Vec::new();
    for (id, (token, score)) in tokens.iter().zip(scores).enumerate() {
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

/// Two tokens that may merge.
struct Rule<'t> {
    /// The score of what they make.
    score: f64,
    left: &'t str,
    right: &'t str,
    /// Of what they make, and of the two.
    ids: [usize; 3],
}

impl Rule<'_> {
    fn order(&self, other: &Self) -> Ordering {
        let lengths = |rule: &Self| (rule.left.chars().count(), rule.right.chars().count());
        let by_score = other.score.total_cmp(&self.score);
        by_score
            .then_with(|| lengths(other).cmp(&lengths(self)))
            .then_with(|| self.ids.cmp(&other.ids))
    }
}

fn normalizer(prefix: bool) -> Result<NormalizerWrapper, Error> {
    let spaces = Replace::new(" ", SPACE).map_err(refused)?.into();
    let steps = if prefix {
        vec![Prepend::new(SPACE.to_owned()).into(), spaces]
    } else {
        vec![spaces]
    };
    Ok(Normalizers::new(steps).into())
}

fn decoder(prefix: bool) -> Result<DecoderWrapper, Error> {
    let spaces = Replace::new(SPACE, " ").map_err(refused)?.into();
    let mut steps = vec![spaces, ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps).into())
}
