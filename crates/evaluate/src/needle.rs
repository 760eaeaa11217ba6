//! Needles in a haystack: whether a model still finds a sentence that stood anywhere in a long text.
//!
//! ```text
//! text … The secret number of Oslo is 4711. … text        the prompt, to which a cache policy is applied
//! The secret number of Oslo is                            asked behind it: greedy tokens must be those of 4711
//! ```
//!
//! Perplexity hardly sees that a token is gone which nobody asks for in the next sentences; this does. The question comes
//! behind the policy, which cannot know what will be asked.

use burn::tensor::Tensor;
use compress_models::{Cache, Decoder, Sampler, to_host};
use compress_numerics::Random;
use serde::Serialize;
use tokenizers::Tokenizer;

use crate::{Error, Result};

/// Names that are asked for: one token or some, and nothing that texts give numbers to.
const NAMES: [&str; 8] = [
    "Oslo", "Lima", "Cairo", "Delhi", "Paris", "Tokyo", "Rome", "Quito",
];

/// Tokens that names and numbers may take more than those that are counted.
const MARGIN: usize = 16;

/// How many needles were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Needles {
    /// Those that were asked for.
    pub asked: usize,
    /// Those whose number came back, every digit of it.
    pub found: usize,
    /// Tokens of each prompt with its question and answer, at most.
    pub tokens: usize,
}

/// Hides `count` needles, each in a prompt of its own of `length` tokens or a few less, question and answer included, at
/// depths from its beginning to its end, and asks for each.
///
/// The same numbers and places whatever the model. Fails where the text is too short, and where a forward pass does.
pub fn needles(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    text: &[u32],
    (length, count): (usize, usize),
) -> Result<Needles> {
    let encode = |text: &str| {
        let encoding = tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::Tokeniser {
            problem: e.to_string(),
        })?;
        Ok::<_, Error>(encoding.get_ids().to_vec())
    };
    // Prompt, question and answer fill a window; the sentences take no more tokens than this.
    let sentences =
        encode(" The secret number of Quito is 9999. The secret number of Quito is 9999")?;
    let hay_length = length.saturating_sub(sentences.len() + MARGIN);
    if hay_length == 0 || text.len() < hay_length {
        return Err(Error::TooShort {
            found: text.len(),
            wanted: format!("haystacks of {length}, with a needle and its question"),
        });
    }
    let mut random = Random(1);
    let mut found = 0;
    for index in 0..count {
        let name = NAMES[index % NAMES.len()];
        let number = 1000 + (random.uniform() * 9000.0) as u32;
        let first = (random.uniform() * (text.len() - hay_length) as f32) as usize;
        let hay = &text[first..first + hay_length];
        // At the end of a token, not of a sentence: a model has to cope with that.
        let depth = hay_length * (2 * index + 1) / (2 * count);
        let needle = encode(&format!(" The secret number of {name} is {number}."))?;
        let prompt = [&hay[..depth], &needle, &hay[depth..]].concat();
        let question = encode(&format!(" The secret number of {name} is"))?;
        let asked = encode(&format!(" The secret number of {name} is {number}"))?;
        // The tokens of the number as they follow the question, which the tokenizer may join to a space.
        let answer = &asked[question.len().min(asked.len())..];
        found += usize::from(answers(decoder, &prompt, &question, answer)?);
    }
    Ok(Needles {
        asked: count,
        found,
        tokens: length,
    })
}

/// Whether the most likely tokens behind prompt and question are those of the answer.
fn answers(decoder: &Decoder, prompt: &[u32], question: &[u32], answer: &[u32]) -> Result<bool> {
    let mut cache = Cache::of(decoder);
    decoder.hidden_after(&mut cache, prompt)?;
    let mut hidden = decoder.hidden_after(&mut cache, question)?;
    for token in answer {
        if most_likely(decoder, hidden)? != Some(*token) {
            return Ok(false);
        }
        hidden = decoder.hidden_after(&mut cache, &[*token])?;
    }
    Ok(true)
}

fn most_likely(decoder: &Decoder, hidden: Tensor<3>) -> Result<Option<u32>> {
    let [_, time, width] = hidden.dims();
    let last = hidden.narrow(1, time - 1, 1).reshape([1, width]);
    let logits = to_host(decoder.logits(last))?;
    Ok(Sampler::greedy().draw(&logits))
}
