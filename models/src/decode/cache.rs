//! The key-value cache: what attention remembers of earlier tokens.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::host::{plain, to_device};

/// Keys and values of every layer.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) length: usize,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tokens it remembers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether it remembers nothing yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Keys and values of one layer.
#[derive(Clone, Debug)]
pub enum LayerCache {
    /// On the CPU: head by head, those of the first text first. Clones share them until one grows.
    Host(Arc<Vec<HeadCache>>),
    /// On any other device: batch × key-value heads × time × d.
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
    /// Adds keys and values of new tokens, each batch × key-value heads × time × d, and gives back those
    /// of all tokens.
    pub(crate) fn extend(&mut self, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let before = match self {
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

    /// Adds one token's keys and values, heads · d of each, to heads on the CPU.
    pub(crate) fn push(&mut self, keys: &[f32], values: &[f32], size: usize) {
        let Self::Host(heads) = self else { return };
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
    /// Keys and values of the last tokens, no more than so many.
    pub(crate) fn last(&self, tokens: usize, size: usize) -> [&[f32]; 2] {
        [&self.keys, &self.values].map(|numbers| {
            let count = numbers.len().min(tokens.saturating_mul(size));
            &numbers[numbers.len() - count..]
        })
    }
}

/// Adds to each head its part of new keys and values; none where they are not plain ones on the CPU.
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

/// Keys and values of all heads as tensors of the shape of new ones; none where the cache is empty.
fn tensors(heads: &[HeadCache], new: &Tensor<4>) -> Option<[Tensor<4>; 2]> {
    let [batch, count, _, size] = new.dims();
    let time = heads.first()?.keys.len() / size;
    let tensor = |part: fn(&HeadCache) -> &[f32]| {
        let numbers = heads.iter().map(part).collect::<Vec<_>>().concat();
        to_device(numbers, [batch, count, time, size], &new.device())
    };
    Some([tensor(|head| &head.keys), tensor(|head| &head.values)])
}
