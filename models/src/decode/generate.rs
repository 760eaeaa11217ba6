//! Greedy generation, one token at a time through the key-value cache.

use burn::tensor::Tensor;

use crate::{Cache, Decoder, Error, Result};

/// A prompt of at least one token, and after it `count` tokens, each the most likely one.
pub fn generate(decoder: &Decoder, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
    let mut cache = Cache::new();
    let mut text = prompt.to_vec();
    let mut next = prompt.to_vec();
    for _ in 0..count {
        let hidden = decoder.hidden_after(&mut cache, &next)?;
        let token = most_likely(decoder, hidden)?;
        text.push(token);
        next = vec![token];
    }
    Ok(text)
}

fn most_likely(decoder: &Decoder, hidden: Tensor<3>) -> Result<u32> {
    let [_, time, width] = hidden.dims();
    let last = hidden.narrow(1, time - 1, 1).reshape([1, width]);
    let token = decoder.logits(last).argmax(1).into_data();
    let token = token.iter::<i64>().next();
    token
        .and_then(|token| u32::try_from(token).ok())
        .ok_or_else(|| Error::Execution {
            problem: "no logits came back".into(),
        })
}
