//! Byte pair encoding of the bytes of text, as GPT-2, Llama 3 and Qwen have it.
//!
//! A pre-tokenizer cuts the text into words, which merges never cross; the words' bytes, each
//! written as a printable character, are then merged by the file's rules. `tokenizer.ggml.pre`
//! names the pre-tokenizer.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::refused;
use super::vocabulary::Vocabulary;
use crate::metadata::needed;
use crate::{Error, Gguf, Value};

const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

/// How a pre-tokenizer cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// GPT-2's pattern; also for a file that names none, as files from before the key do.
    Gpt2,
    /// Every digit alone, then GPT-2's pattern.
    Smollm,
    /// Llama 3's pattern, digits by threes; a word that is a token is taken whole.
    Llama3,
    /// Llama 3's pattern with every digit alone, on composed characters.
    Qwen2,
}

impl Words {
    const NAMES: [(&str, Self); 6] = [
        ("default", Self::Gpt2),
        ("gpt-2", Self::Gpt2),
        ("smollm", Self::Smollm),
        ("llama-bpe", Self::Llama3),
        ("llama3", Self::Llama3),
        ("qwen2", Self::Qwen2),
    ];

    fn of(gguf: &Gguf) -> Result<Self, Error> {
        let name = gguf.text(PRE)?.unwrap_or("default");
        match Self::NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, words)) => Ok(*words),
            None => Err(Error::UnknownTokenizer {
                key: PRE,
                name: name.to_owned(),
                known: Self::NAMES.map(|(known, _)| known).join(", "),
            }),
        }
    }

    fn pre_tokenizer(self) -> Result<PreTokenizerWrapper, Error> {
        let gpt2 = ByteLevel::new(false, true, true).into();
        Ok(match self {
            Self::Gpt2 => gpt2,
            Self::Smollm => Sequence::new(vec![Digits::new(true).into(), gpt2]).into(),
            Self::Llama3 => split(r"\p{N}{1,3}")?,
            Self::Qwen2 => split(r"\p{N}")?,
        })
    }
}

/// The tokenizer without its marked tokens, and whether BOS comes first where the file does not
/// say.
pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<(Tokenizer, bool), Error> {
    let words = Words::of(gguf)?;
    let ids = vocabulary.ids();
    let merges = merges(gguf, &ids)?;
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(words == Words::Llama3)
        .build()
        .map_err(refused)?;
    let mut tokenizer = Tokenizer::new(model);
    if words == Words::Qwen2 {
        tokenizer.with_normalizer(Some(NFC)).map_err(refused)?;
    }
    tokenizer
        .with_pre_tokenizer(Some(words.pre_tokenizer()?))
        .with_decoder(Some(ByteLevel::default()));
    Ok((tokenizer, words == Words::Llama3))
}

fn merges(gguf: &Gguf, ids: &Vocab) -> Result<Merges, Error> {
    let rules = needed(
        MERGES,
        gguf.list(MERGES, "a list of strings", Value::as_str)?,
    )?;
    rules.into_iter().map(|rule| pair(rule, ids)).collect()
}

/// The two sides of a rule. The library would panic at one that leads outside the vocabulary.
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

/// Contractions, letters with at most one sign before them, numbers as given, signs with what line
/// ends follow, white space.
fn split(numbers: &str) -> Result<PreTokenizerWrapper, Error> {
    let pattern = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        numbers,
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
    .join("|");
    let words = Split::new(
        SplitPattern::Regex(pattern),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(refused)?;
    Ok(Sequence::new(vec![
        words.into(),
        ByteLevel::new(false, true, false).into(),
    ])
    .into())
}
