//! A text whose beginning is a prompt: the rest reads it from the key-value cache.
//!
//! A forward pass over a whole window never reads its keys back, so that whatever is done to them in a cache would cost
//! nothing in its perplexity. Here the rest is predicted from the cache as generation would find it. Under a policy its
//! tokens go through each layer's cache one after the other, and through everything else together.

use burn::tensor::Tensor;
use compress_models::{Cache, Decoder};

use crate::Result;

/// The residual stream after the last norm, time × hidden; the first `split` tokens are the prompt, at least one.
pub fn hidden(decoder: &Decoder, window: &[u32], split: usize) -> Result<Tensor<2>> {
    read(decoder, window, split).map(|(hidden, _)| hidden)
}

/// The cache that a text leaves, under the policy of the model; the first `split` tokens are the prompt, at least one.
///
/// What it holds of old tokens does not depend on whether they came one by one or together.
pub fn cache_of(decoder: &Decoder, window: &[u32], split: usize) -> Result<Cache> {
    read(decoder, window, split).map(|(_, cache)| cache)
}

fn read(decoder: &Decoder, window: &[u32], split: usize) -> Result<(Tensor<2>, Cache)> {
    let mut cache = Cache::of(decoder);
    let (prompt, rest) = window.split_at(split.clamp(1, window.len()));
    let mut parts = Vec::with_capacity(2);
    for tokens in [prompt, rest]
        .into_iter()
        .filter(|tokens| !tokens.is_empty())
    {
        let hidden = decoder.hidden_after(&mut cache, tokens)?;
        let [_, time, width] = hidden.dims();
        parts.push(hidden.reshape([time, width]));
    }
    Ok((Tensor::cat(parts, 0), cache))
}
