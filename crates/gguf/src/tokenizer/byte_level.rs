//! Byte-level byte pair encoding, as GPT-2, Llama 3 and Qwen have it.
//!
//! A pre-tokenizer, named by `tokenizer.ggml.pre`, splits the text into words, which no merge
//! crosses. The bytes of a word, each written as a printable character, are then merged by the
//! rules in `tokenizer.ggml.merges`, in their order.

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

/// The key with the name of the pre-tokenizer.
const PRE: &str = "tokenizer.ggml.pre";
/// The key with the merge rules: two tokens with a space between them.
const MERGES: &str = "tokenizer.ggml.merges";

/// The pre-tokenizers that can be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// GPT-2's pattern. Also the default, as files from before the key existed name none.
    Gpt2,
    /// Each digit by itself, then GPT-2's pattern.
    Smollm,
    /// Llama 3's pattern with digits in groups of up to three; a word that is a token is not split
    /// by merges.
    Llama3,
    /// Llama 3's pattern with each digit by itself, after Unicode normalization to NFC.
    Qwen2,
}

impl Words {
    /// The names in GGUF files. Others exist for other patterns: to guess one would give other
    /// tokens without an error.
    const NAMES: [(&str, Self); 6] = [
        ("default", Self::Gpt2),
        ("gpt-2", Self::Gpt2),
        ("smollm", Self::Smollm),
        ("llama-bpe", Self::Llama3),
        ("llama3", Self::Llama3),
        ("qwen2", Self::Qwen2),
    ];

    /// The pre-tokenizer that a file names; the error for an unknown name lists the known ones.
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

    /// The splitting as a pre-tokenizer of the tokenizers library.
    fn pre_tokenizer(self) -> Result<PreTokenizerWrapper, Error> {
        // No space before the text; offsets without the space of a word; GPT-2's pattern.
        let gpt2 = ByteLevel::new(false, true, true).into();
        Ok(match self {
            Self::Gpt2 => gpt2,
            Self::Smollm => Sequence::new(vec![Digits::new(true).into(), gpt2]).into(),
            Self::Llama3 => split(r"\p{N}{1,3}")?,
            Self::Qwen2 => split(r"\p{N}")?,
        })
    }
}

/// The tokenizer without its added tokens, and whether BOS comes first where the file does not say:
/// Llama 3 has it, the others do not.
pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<(Tokenizer, bool), Error> {
    let words = Words::of(gguf)?;
    let rules = needed(
        MERGES,
        gguf.list(MERGES, "a list of strings", Value::as_str)?,
    )?;
    let tokenizer = assemble(words, vocabulary.ids(), rules)?;
    Ok((tokenizer, words == Words::Llama3))
}

/// Qwen2's tokenizer without its added tokens, from ids and merge rules: two tokens with a space
/// between them.
pub fn qwen2<'r>(ids: Vocab, rules: impl IntoIterator<Item = &'r str>) -> Result<Tokenizer, Error> {
    assemble(Words::Qwen2, ids, rules)
}

/// The tokenizer of a vocabulary, its merge rules in the order of their priority, and a pattern.
fn assemble<'r>(
    words: Words,
    ids: Vocab,
    rules: impl IntoIterator<Item = &'r str>,
) -> Result<Tokenizer, Error> {
    let merges: Merges = rules
        .into_iter()
        .map(|rule| pair(rule, &ids))
        .collect::<Result<_, _>>()?;
    // Llama 3 takes a word that is a token whole, even where no merges lead to it.
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(words == Words::Llama3)
        .build()
        .map_err(refused)?;
    let mut tokenizer = Tokenizer::new(model);
    // Qwen2 composes characters before it splits.
    if words == Words::Qwen2 {
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

/// Llama 3's pattern with a given expression for numbers, then bytes as printable characters.
///
/// In order: English contractions, letters with at most one other sign before them, numbers, signs
/// with the line ends that follow, line ends, white space (all but its last character before a
/// word).
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
    // Isolated: matches become words, and so does the text between them.
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
