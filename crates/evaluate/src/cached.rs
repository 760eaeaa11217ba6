//! The last hidden states of a text that is read as a generated one is: its beginning at once, then token by token
//! through the key-value cache.
//!
//! A forward pass over a whole window never reads its keys back, so that whatever is done to them in a cache would cost
//! nothing in its perplexity. Here each token is predicted from the cache as generation would find it.

use burn::tensor::Tensor;
use compress_models::{Cache, Decoder};

use crate::Result;

/// The residual stream after the last norm, time × hidden; the first `prompt` tokens go together, at least one.
pub fn hidden(decoder: &Decoder, window: &[u32], prompt: usize) -> Result<Tensor<2>> {
    let mut cache = Cache::new();
    let (first, rest) = window.split_at(prompt.clamp(1, window.len()));
    let mut parts = Vec::with_capacity(1 + rest.len());
    for tokens in std::iter::once(first).chain(rest.chunks(1)) {
        let hidden = decoder.hidden_after(&mut cache, tokens)?;
        let [_, time, width] = hidden.dims();
        parts.push(hidden.reshape([time, width]));
    }
    Ok(Tensor::cat(parts, 0))
}
