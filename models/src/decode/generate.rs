//! Greedy generation, one token at a time through the key-value cache.

use burn::tensor::Tensor;

use crate::{Cache, Decoder, Error, Result};

/// The prompt and `count` tokens after it, each the most likely one (greedy decoding; no end token stops it).
///
/// Fails, unless `count` is 0, on an empty prompt and on a token that the vocabulary does not have.
pub fn generate(decoder: &Decoder, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
    let mut cache = Cache::of(decoder);
    let mut text = prompt.to_vec();
    let mut next = prompt.to_vec();
    for _ in 0..count {
        // The first round takes the whole prompt at once, each later one a single token.
        let hidden = decoder.hidden_after(&mut cache, &next)?;
        let token = most_likely(decoder, hidden)?;
        text.push(token);
        next = vec![token];
    }
    Ok(text)
}

/// The token with the largest logit after the last position of 1 × time × hidden.
fn most_likely(decoder: &Decoder, hidden: Tensor<3>) -> Result<u32> {
    let [_, time, width] = hidden.dims();
    // Logits of the last position only: those of a whole prompt would be time × vocabulary.
    let last = hidden.narrow(1, time - 1, 1).reshape([1, width]);
    let token = decoder.logits(last).argmax(1).into_data();
    let token = token.iter::<i64>().next();
    token
        .and_then(|token| u32::try_from(token).ok())
        .ok_or_else(|| Error::Execution {
            problem: "no logits came back".into(),
        })
}
