//! How a byte-level tokenizer splits a text into words, which no merge crosses: the pre-tokenizers
//! by their names in files.
//!
//! A file has the name only. What it stands for is in llama.cpp's table, and the patterns are those
//! of the models' own `tokenizer.json`. Other names exist for other patterns: to guess one would
//! give other tokens without an error.

use tokenizers::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use super::refused;
use crate::{Error, Gguf};

/// The key with the name of the pre-tokenizer.
pub(super) const PRE: &str = "tokenizer.ggml.pre";

/// What is taken where a file names none.
const GUESSED: &str = "gpt-2";

/// Splitting into words, and what else a pre-tokenizer's name tells of a tokenizer.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// One after another, each within the pieces of those before.
    steps: &'static [Step],
    /// Characters are composed (Unicode's NFC) before the text is split.
    pub(super) composed: bool,
    /// A word that is a token is taken whole, even where no merges lead to it.
    pub(super) whole: bool,
    /// A text begins with BOS where the file does not say.
    pub(super) begun: bool,
}

/// A step of splitting.
#[derive(Clone, Copy)]
enum Step {
    /// Each digit by itself, of any script.
    Digits,
    /// The matches of a pattern become words, and so does the text between them.
    Matches(&'static str),
    /// GPT-2's pattern: contractions, letters, numbers and signs, each with the space before it.
    Gpt2,
}

/// Steps only, as most tokenizers have it.
const fn plain(steps: &'static [Step]) -> Words {
    Words {
        steps,
        composed: false,
        whole: false,
        begun: false,
    }
}

/// Steps after Unicode normalisation.
const fn composed(steps: &'static [Step]) -> Words {
    Words {
        composed: true,
        ..plain(steps)
    }
}

/// Steps with whole words and BOS.
const fn whole(steps: &'static [Step]) -> Words {
    Words {
        whole: true,
        begun: true,
        ..plain(steps)
    }
}

/// A pattern of the kind that GPT-4 and Llama 3 have, with given expressions for words and for
/// numbers, and the characters that may follow signs.
///
/// In order: words, numbers, signs with what follows, line ends, white space (all but its last
/// character before a word).
macro_rules! pattern {
    ($words:expr, $numbers:expr, $after:expr) => {
        concat!(
            $words,
            "|",
            $numbers,
            r"| ?[^\s\p{L}\p{N}]+[",
            $after,
            r"]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

/// English contractions, or letters with at most one other sign before them.
macro_rules! letters {
    () => {
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
    };
}

/// Letters by case: a word ends before a capital after small letters. `$end` may follow it.
macro_rules! cased {
    ($end:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $end
        )
    };
}

const GPT2: &[Step] = &[Step::Gpt2];
const STARCODER: &[Step] = &[Step::Digits, Step::Gpt2];
const LLAMA3: &[Step] = &[Step::Matches(pattern!(letters!(), r"\p{N}{1,3}", r"\r\n"))];
const QWEN2: &[Step] = &[Step::Matches(pattern!(letters!(), r"\p{N}", r"\r\n"))];
/// Qwen2's, with marks among the letters.
const QWEN35: &[Step] = &[Step::Matches(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
))];
/// Qwen2's, without line ends after signs.
const SEED_CODER: &[Step] = &[Step::Matches(concat!(
    letters!(),
    r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
))];
const TEKKEN: &[Step] = &[Step::Matches(pattern!(cased!(""), r"\p{N}", r"\r\n/"))];
const GPT4O: &[Step] = &[Step::Matches(pattern!(
    cased!("(?i:'s|'t|'re|'ve|'m|'ll|'d)?"),
    r"\p{N}{1,3}",
    r"\r\n/"
))];
/// Numbers, then runs of Chinese and Japanese characters, then the rest.
const DEEPSEEK_V3: &[Step] = &[
    Step::Matches(r"\p{N}{1,3}"),
    Step::Matches(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
    Step::Matches(concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
        r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )),
];
/// Letters of the scripts that have capitals, as one Unicode version had them.
macro_rules! letters_of_two_cases {
    () => {
        concat!(
            r"A-Za-z\x{00B5}\x{00C0}-\x{00D6}\x{00D8}-\x{00F6}\x{00F8}-\x{01BA}\x{01BC}-\x{01BF}",
            r"\x{01C4}-\x{0293}\x{0295}-\x{02AF}\x{0370}-\x{0373}\x{0376}\x{0377}",
            r"\x{037B}-\x{037D}\x{037F}\x{0386}\x{0388}-\x{038A}\x{038C}\x{038E}-\x{03A1}",
            r"\x{03A3}-\x{03F5}\x{03F7}-\x{0481}\x{048A}-\x{052F}\x{0531}-\x{0556}",
            r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}",
            r"\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}",
            r"\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}",
            r"\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}",
            r"\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}",
            r"\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}",
            r"\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}",
            r"\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}",
            r"\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}",
            r"\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
            r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}",
            r"\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}",
            r"\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}",
            r"\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}",
        )
    };
}

const DEEPSEEK_LLM: &[Step] = &[
    Step::Matches(r"[\r\n]"),
    Step::Matches(concat!(r"\s?[", letters_of_two_cases!(), "]+")),
    Step::Matches(
        r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
    ),
    Step::Matches(r"\s+$"),
    Step::Matches(r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
    Step::Matches(r"\p{N}+"),
];
const DEEPSEEK_CODER: &[Step] = &[
    Step::Matches(r"[\r\n]"),
    Step::Matches(r"\s?\p{L}+"),
    Step::Matches(r"\s?\p{P}+"),
    Step::Matches(r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
    Step::Digits,
];

/// The names in files with what they stand for.
const NAMES: &[(&str, Words)] = &[
    // What older conversions wrote for a pattern that they did not recognise.
    ("default", plain(GPT2)),
    ("gpt-2", plain(GPT2)),
    ("phi-2", plain(GPT2)),
    ("gigachat", plain(GPT2)),
    ("mellum", plain(GPT2)),
    ("mpt", plain(GPT2)),
    ("jais", plain(GPT2)),
    ("trillion", plain(GPT2)),
    ("exaone4", plain(GPT2)),
    ("olmo", composed(GPT2)),
    ("smollm", plain(STARCODER)),
    ("starcoder", plain(STARCODER)),
    ("refact", plain(STARCODER)),
    ("codeshell", plain(STARCODER)),
    ("exaone", plain(STARCODER)),
    ("minerva-7b", plain(STARCODER)),
    ("command-r", composed(STARCODER)),
    ("llama-bpe", whole(LLAMA3)),
    ("llama3", whole(LLAMA3)),
    ("llama-v3", whole(LLAMA3)),
    ("falcon3", whole(LLAMA3)),
    ("midm-2.0", whole(LLAMA3)),
    ("smaug-bpe", plain(LLAMA3)),
    ("dbrx", plain(LLAMA3)),
    ("glm4", plain(LLAMA3)),
    ("chatglm-bpe", plain(LLAMA3)),
    ("qwen2", composed(QWEN2)),
    ("deepseek-r1-qwen", composed(QWEN2)),
    ("stablelm2", composed(QWEN2)),
    ("megrez", plain(QWEN2)),
    ("hunyuan", plain(QWEN2)),
    ("qwen35", composed(QWEN35)),
    ("seed-coder", plain(SEED_CODER)),
    ("tekken", whole(TEKKEN)),
    ("gpt-4o", plain(GPT4O)),
    ("llama4", plain(GPT4O)),
    ("deepseek-llm", plain(DEEPSEEK_LLM)),
    ("deepseek-coder", plain(DEEPSEEK_CODER)),
    ("deepseek-v3", plain(DEEPSEEK_V3)),
    ("hunyuan-dense", plain(DEEPSEEK_V3)),
];

impl Words {
    /// Those of Qwen2.
    pub(super) const QWEN2: Self = composed(QWEN2);

    /// The pre-tokenizer that a file names, or GPT-2's where it names none; the error for an
    /// unknown name lists the known ones.
    pub(super) fn of(gguf: &Gguf) -> Result<Self, Error> {
        let name = gguf.text(PRE)?.unwrap_or(GUESSED);
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, words)) => Ok(*words),
            None => Err(Error::UnknownTokenizer {
                key: PRE,
                name: name.to_owned(),
                known: NAMES
                    .iter()
                    .map(|(known, _)| *known)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// The splitting as a pre-tokenizer of the tokenizers library; bytes become printable
    /// characters.
    pub(super) fn pre_tokenizer(self) -> Result<PreTokenizerWrapper, Error> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        let mut printable = false;
        for step in self.steps {
            steps.push(match step {
                Step::Digits => Digits::new(true).into(),
                Step::Matches(pattern) => Split::new(
                    SplitPattern::Regex((*pattern).to_owned()),
                    SplitDelimiterBehavior::Isolated,
                    false,
                )
                .map_err(refused)?
                .into(),
                // The library has the pattern in the step that makes bytes printable.
                Step::Gpt2 => {
                    printable = true;
                    // No space before the text; offsets without the space of a word.
                    ByteLevel::new(false, true, true).into()
                }
            });
        }
        if !printable {
            steps.push(ByteLevel::new(false, true, false).into());
        }
        Ok(match <[_; 1]>::try_from(steps) {
            Ok([step]) => step,
            Err(steps) => Sequence::new(steps).into(),
        })
    }
}

/// What to tell people where the pre-tokenizer of a byte-level tokenizer is guessed.
pub(super) fn warning(gguf: &Gguf) -> Result<Option<String>, Error> {
    let what = match gguf.text(PRE)? {
        None => format!("{PRE} is missing"),
        Some("default") => format!("{PRE} is \"default\", which names none"),
        Some(_) => return Ok(None),
    };
    Ok(Some(format!(
        "{what}: text is split into words by GPT-2's pattern, which is a guess; if the model was made with another, texts \
         become other and more tokens, and all figures are worse. A file that was converted anew, or the original model, \
         has no such doubt"
    )))
}
