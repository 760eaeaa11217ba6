//! The key-value cache: the keys and values of earlier tokens, which attention reads again for each new one.
//!
//! Takes 2 · layers · key-value heads · d numbers of `f32` per token, sliding window or not.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::host::{plain, to_device};

/// Keys and values of every layer for the tokens of a text so far.
///
/// Belongs to one network: a cache that was filled by another has other shapes.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// One per block; empty until the first token.
    pub(crate) layers: Vec<LayerCache>,
    /// Tokens that all layers hold.
    pub(crate) length: usize,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens that it holds; the position of the next one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds no token yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Keys and values of one layer, after the rotary embedding.
#[derive(Clone, Debug)]
pub enum LayerCache {
    /// On the CPU: head by head, those of the first text first. Clones share the numbers until one grows.
    Host(Arc<Vec<HeadCache>>),
    /// On any other device, or under autodiff: keys and values, each batch × key-value heads × time × d.
    Device(Box<[Tensor<4>; 2]>),
}

/// Keys and values of one head. They grow as a `Vec` does: to add a token does not copy those before it.
#[derive(Clone, Debug, Default)]
pub struct HeadCache {
    /// time × d
    pub keys: Vec<f32>,
    /// time × d
    pub values: Vec<f32>,
}

impl Default for LayerCache {
    fn default() -> Self {
        Self::Host(Arc::default())
    }
}

impl LayerCache {
    /// Adds keys and values of new tokens, each batch × key-value heads × time × d, and gives those of all tokens.
    pub(crate) fn extend(&mut self, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let before = match self {
            // Burn's tensors are handles: a clone copies no numbers.
            Self::Device(before) => Some(before.as_ref().clone()),
            Self::Host(heads) => tensors(heads, &new[0]),
        };
        let kept = match self {
            Self::Host(heads) => remember(Arc::make_mut(heads), &new),
            Self::Device(_) => None,
        };
        let all = match (before, new) {
            (Some([keys, values]), [key, value]) => [
                Tensor::cat(vec![keys, key], 2),
                Tensor::cat(vec![values, value], 2),
            ],
            (None, new) => new,
        };
        // New tensors that are not plain ones move the whole layer to the device's form.
        if kept.is_none() {
            *self = Self::Device(Box::new(all.clone()));
        }
        all
    }

    /// Its heads, where they are on the CPU.
    pub(crate) fn host(&self) -> Option<&Arc<Vec<HeadCache>>> {
        match self {
            Self::Host(heads) => Some(heads),
            Self::Device(_) => None,
        }
    }

    /// Adds one token's keys and values, each key-value heads · d, to heads on the CPU; elsewhere does nothing.
    pub(crate) fn push(&mut self, keys: &[f32], values: &[f32], size: usize) {
        let Self::Host(heads) = self else { return };
        // Copies only where a clone of the cache still shares the heads.
        let heads = Arc::make_mut(heads);
        heads.resize_with(keys.len() / size, HeadCache::default);
        let new = keys.chunks_exact(size).zip(values.chunks_exact(size));
        for (head, (key, value)) in heads.iter_mut().zip(new) {
            head.keys.extend_from_slice(key);
            head.values.extend_from_slice(value);
        }
    }
}

impl HeadCache {
    /// Keys and values of the last tokens, at most `tokens` of them: the part that a sliding window sees.
    pub(crate) fn last(&self, tokens: usize, size: usize) -> [&[f32]; 2] {
        [&self.keys, &self.values].map(|numbers| {
            let count = numbers.len().min(tokens.saturating_mul(size));
            &numbers[numbers.len() - count..]
        })
    }
}

/// Appends to each head its part of new keys and values; none, and nothing done, where these are not plain tensors on
/// the CPU.
fn remember(heads: &mut Vec<HeadCache>, new: &[Tensor<4>; 2]) -> Option<()> {
    let [batch, count, time, size] = new[0].dims();
    new.iter().map(plain).collect::<Option<Vec<_>>>()?;
    let [keys, values] = new.clone().map(Tensor::into_data);
    let (keys, values) = (keys.as_slice().ok()?, values.as_slice().ok()?);
    heads.resize_with(batch * count, HeadCache::default);
    let new = keys.chunks(time * size).zip(values.chunks(time * size));
    for (head, (keys, values)) in heads.iter_mut().zip(new) {
        head.keys.extend_from_slice(keys);
        head.values.extend_from_slice(values);
    }
    Some(())
}

/// The keys and values of all heads as tensors, batch × key-value heads × time × d, on the device of new keys; none
/// where the cache is empty.
fn tensors(heads: &[HeadCache], new: &Tensor<4>) -> Option<[Tensor<4>; 2]> {
    let [batch, count, _, size] = new.dims();
    let time = heads.first()?.keys.len() / size;
    let tensor = |part: fn(&HeadCache) -> &[f32]| {
        let numbers = heads.iter().map(part).collect::<Vec<_>>().concat();
        to_device(numbers, [batch, count, time, size], &new.device())
    };
    Some([tensor(|head| &head.keys), tensor(|head| &head.values)])
}
