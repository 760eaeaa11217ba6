//! The key-value cache: the keys and values of earlier tokens, which attention reads again for each new one.
//!
//! Takes 2 · layers · key-value heads · d numbers of `f32` per token, sliding window or not; less under a [`Policy`],
//! which is applied to each layer as soon as the prompt has passed it, so that no more than one layer of a prompt is ever
//! whole.

use std::{hint::spin_loop, sync::Arc};

use burn::tensor::Tensor;
use compress_think::{HeadCache, HeadShape, LayerPolicy, Policy, Queries};
use rayon::prelude::*;

use super::token::plain::Network;
use crate::{
    Decoder, Error, Result,
    host::{plain, to_device, to_host},
};

/// Keys and values of every layer for the tokens of a text so far.
///
/// Belongs to one network: a cache that was filled by another has other shapes.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// One per block; none before the first token.
    pub(crate) layers: Vec<LayerCache>,
    /// Tokens of the text so far, whether a policy has left them out or not.
    pub(crate) length: usize,
    /// What is kept of them; none: all.
    policy: Option<Arc<Policy>>,
    /// The network as the kernels of decoding take it, since the first token that they decoded.
    pub(crate) network: Option<Arc<Network>>,
}

impl Cache {
    /// An empty cache that keeps all, whatever the network's policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache under the policy of a network, which is applied behind the prompt: the tokens that are added first.
    #[must_use]
    pub fn of(decoder: &Decoder) -> Self {
        Self {
            policy: decoder.policy.clone(),
            ..Self::default()
        }
    }

    /// Tokens of the text so far; the position of the next one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no token yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its keys and values, without what else it has for decoding.
    #[must_use]
    pub fn into_layers(self) -> Vec<LayerCache> {
        self.layers
    }

    /// The heads of a layer, those of the first text first; none before the first token, and of a whole cache
    /// that is not on the CPU.
    #[must_use]
    pub fn heads(&self, layer: usize) -> Option<&[HeadCache]> {
        let heads = self.layers.get(layer)?.heads()?;
        Some(heads.as_slice())
    }

    /// Fails where a device has not given a layer what it keeps. The cache is then empty, since its layers do not have
    /// the same tokens any more.
    pub(crate) fn fail_with_device(&mut self) -> Result<()> {
        let mut layers = self.layers.iter_mut();
        let Some(problem) = layers.find_map(|layer| layer.failure.take()) else {
            return Ok(());
        };
        (self.layers, self.length) = (Vec::new(), 0);
        Err(Error::Execution { problem })
    }

    /// Whether the next tokens are a prompt that a policy is to be applied to.
    pub(crate) fn is_thinned_next(&self) -> bool {
        self.is_empty() && self.layers.iter().any(LayerCache::has_policy)
    }

    /// Makes the layers of a network, if they are not there; fails where it cannot follow the policy.
    pub(crate) fn prepare(&mut self, decoder: &Decoder) -> Result<()> {
        if self.layers.len() == decoder.blocks.len() {
            return Ok(());
        }
        let policy = self.policy.as_deref();
        if let Some(policy) = policy {
            check(policy, decoder)?;
        }
        let layer =
            |index| LayerCache::new(policy.map_or_else(LayerPolicy::default, |p| *p.layer(index)));
        self.layers = (0..decoder.blocks.len()).map(layer).collect();
        Ok(())
    }
}

/// Refuses the policy of another network, and any for attention in a sliding window.
fn check(policy: &Policy, decoder: &Decoder) -> Result<()> {
    let Some(block) = decoder.blocks.first() else {
        return Ok(());
    };
    let attention = &block.attention;
    policy.check(HeadShape {
        layers: decoder.blocks.len(),
        key_value_heads: attention.key_value_heads,
        head_size: attention.head_size,
    })?;
    let mut layers = (0..decoder.blocks.len()).map(|layer| policy.layer(layer));
    if layers.all(LayerPolicy::keeps_all) {
        return Ok(());
    }
    if attention.window.is_none() {
        return Ok(());
    }
    // Pages of old tokens would have to be dropped as the window moves.
    let problem = "a cache policy does not go with sliding-window attention, which limits the cache by itself";
    Err(Error::Cache { problem })
}

/// Keys and values of one layer, after the rotary embedding.
#[derive(Clone, Debug)]
pub struct LayerCache {
    policy: LayerPolicy,
    kept: Kept,
    /// Why a device has not given keys, values or queries. Attention gives tensors and no errors, so that it is told
    /// behind the last block.
    failure: Option<String>,
}

/// Where keys and values are.
#[derive(Clone, Debug)]
enum Kept {
    /// In memory of the host: head by head, those of the first text first. Clones share the numbers until one grows. Under
    /// a policy on any device: of a GPU's memory a thinned cache then takes nothing, and attention over it is the CPU's.
    Host(Arc<Vec<HeadCache>>),
    /// On any device but the CPU, or under autodiff: keys and values, each batch × key-value heads × time × d.
    Device(Box<[Tensor<4>; 2]>),
}

/// Turns of waiting for a thread that still reads a layer: some microseconds.
const PATIENCE: usize = 1 << 8;

impl LayerCache {
    fn new(policy: LayerPolicy) -> Self {
        let kept = Kept::Host(Arc::default());
        Self {
            policy,
            kept,
            failure: None,
        }
    }

    /// Attention of new tokens over those of the cache and themselves, from queries, keys and values of batch × heads ×
    /// time × d; they are in the cache afterwards. `attend` is attention over whole keys and values.
    pub(crate) fn attend(
        &mut self,
        [query, key, value]: [Tensor<4>; 3],
        attend: impl FnOnce([Tensor<4>; 3]) -> Tensor<3>,
    ) -> Tensor<3> {
        let first = self.heads().is_none_or(|heads| heads.is_empty());
        if self.has_policy() && !first {
            let ([batch, heads, time, size], device) = (query.dims(), query.device());
            return self.follow([query, key, value]).unwrap_or_else(|error| {
                self.failure = Some(problem(error));
                Tensor::zeros([batch, time, heads * size], &device)
            });
        }
        let [key, value] = self.extend([key, value]);
        let attended = attend([query.clone(), key, value]);
        if self.has_policy()
            && let Err(error) = self.thin(query)
        {
            self.failure = Some(problem(error));
        }
        attended
    }

    /// Whether not all of a prompt is kept.
    fn has_policy(&self) -> bool {
        !self.policy.keeps_all()
    }

    /// Adds keys and values of new tokens, each batch × key-value heads × time × d, and gives those of all tokens.
    fn extend(&mut self, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let before = match &self.kept {
            // Burn's tensors are handles: a clone copies no numbers.
            Kept::Device(before) => Some(before.as_ref().clone()),
            Kept::Host(heads) => tensors(heads, &new[0]),
        };
        let thinned = self.has_policy();
        let kept = match &mut self.kept {
            Kept::Host(heads) if thinned || new.iter().all(|new| plain(new).is_some()) => {
                let kept = remember(Arc::make_mut(heads), &new);
                kept.map_err(|error| self.failure = Some(problem(error)))
            }
            Kept::Host(_) | Kept::Device(_) => Err(()),
        };
        let all = match (before, new) {
            (Some([keys, values]), [key, value]) => [
                Tensor::cat(vec![keys, key], 2),
                Tensor::cat(vec![values, value], 2),
            ],
            (None, new) => new,
        };
        // New tensors that are not plain ones move the whole layer to the device's form.
        if kept.is_err() {
            self.kept = Kept::Device(Box::new(all.clone()));
        }
        all
    }

    /// Applies the policy to a prompt, whose queries are batch × heads × time × d. Fails where the device does.
    fn thin(&mut self, query: Tensor<4>) -> Result<()> {
        let Kept::Host(heads) = &mut self.kept else {
            return Ok(());
        };
        let [batch, count, time, size] = query.dims();
        let window = time.min(self.policy.window);
        let last = to_host(query.narrow(2, time - window, window))?;
        let group = batch * count / heads.len().max(1);
        let policy = self.policy;
        let heads = Arc::make_mut(heads).par_iter_mut();
        let queries = last.par_chunks_exact(group * window * size);
        heads.zip(queries).for_each(|(head, queries)| {
            let queries: Vec<&[f32]> = queries.chunks_exact(window * size).collect();
            head.thin(&queries, &policy);
        });
        Ok(())
    }

    /// Attention of tokens that follow a prompt under a policy, one after the other: each may change what the next one
    /// finds. Heads are spread over rayon's threads. Fails where the device does.
    fn follow(&mut self, [query, key, value]: [Tensor<4>; 3]) -> Result<Tensor<3>> {
        let ([batch, count, time, size], device) = (query.dims(), query.device());
        let (query, key, value) = (to_host(query)?, to_host(key)?, to_host(value)?);
        let Kept::Host(heads) = &mut self.kept else {
            return Ok(to_device(query, [batch, time, count * size], &device));
        };
        let heads = Arc::make_mut(heads);
        let group = batch * count / heads.len().max(1);
        let rows = |numbers: &[f32], head: usize, token: usize| {
            let first = (head * time + token) * size;
            numbers[first..first + size].to_vec()
        };
        let one = |(index, head): (usize, &mut HeadCache)| {
            let tokens = (0..time).flat_map(|token| {
                let queries = (0..group).flat_map(|i| rows(&query, index * group + i, token));
                let [key, value] = [&key, &value].map(|x| rows(x, index, token));
                let queries = Queries::new(queries.collect(), size);
                let attended = queries.attend(head, Some([&key, &value]));
                head.extend(&key, &value);
                attended
            });
            tokens.collect::<Vec<f32>>()
        };
        // By head of keys: time × group · d.
        let attended: Vec<Vec<f32>> = heads.par_iter_mut().enumerate().map(one).collect();
        let shared = attended.len() / batch.max(1);
        let row = |text: usize, token: usize| {
            let heads = attended[text * shared..(text + 1) * shared].iter();
            heads.flat_map(move |head| &head[token * group * size..(token + 1) * group * size])
        };
        let texts = (0..batch).flat_map(|text| (0..time).flat_map(move |token| row(text, token)));
        let texts: Vec<f32> = texts.copied().collect();
        Ok(to_device(texts, [batch, time, count * size], &device))
    }

    /// Bytes that it takes on a device that is not the CPU; those in memory of the host are not counted.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        let numbers = |tensor: &Tensor<4>| tensor.dims().iter().product::<usize>();
        match &self.kept {
            Kept::Host(_) => 0,
            Kept::Device(both) => size_of::<f32>() * both.iter().map(numbers).sum::<usize>(),
        }
    }

    /// Its heads, where they are on the CPU.
    pub(crate) const fn heads(&self) -> Option<&Arc<Vec<HeadCache>>> {
        match &self.kept {
            Kept::Host(heads) => Some(heads),
            Kept::Device(_) => None,
        }
    }

    /// Adds one token's keys and values, each key-value heads · d, to heads on the CPU; elsewhere does nothing.
    pub(crate) fn push(&mut self, keys: &[f32], values: &[f32], size: usize) {
        let Kept::Host(heads) = &mut self.kept else {
            return;
        };
        // A thread that came late to the token before may hold them for a moment.
        for _ in 0..PATIENCE {
            if Arc::strong_count(heads) == 1 {
                break;
            }
            spin_loop();
        }
        // Copies only where a clone of the cache still shares the heads, or that thread lost its core.
        let heads = Arc::make_mut(heads);
        heads.resize_with(keys.len() / size, || HeadCache::new(size));
        let new = keys.chunks_exact(size).zip(values.chunks_exact(size));
        for (head, (key, value)) in heads.iter_mut().zip(new) {
            head.extend(key, value);
        }
    }
}

/// What a device said when it did not give numbers.
fn problem(error: Error) -> String {
    match error {
        Error::Execution { problem } => problem,
        other => other.to_string(),
    }
}

/// Appends to each head its part of new keys and values. Fails, and does nothing, where the device does not give them.
fn remember(heads: &mut Vec<HeadCache>, [keys, values]: &[Tensor<4>; 2]) -> Result<()> {
    let [batch, count, time, size] = keys.dims();
    let (keys, values) = (to_host(keys.clone())?, to_host(values.clone())?);
    heads.resize_with(batch * count, || HeadCache::new(size));
    let new = keys.chunks(time * size).zip(values.chunks(time * size));
    for (head, (keys, values)) in heads.iter_mut().zip(new) {
        head.extend(keys, values);
    }
    Ok(())
}

/// The keys and values of all heads as tensors, batch × key-value heads × time × d, on the device of new keys; none
/// where the cache is empty.
fn tensors(heads: &[HeadCache], new: &Tensor<4>) -> Option<[Tensor<4>; 2]> {
    let [batch, count, _, size] = new.dims();
    let time = heads.first()?.tokens();
    let whole: Vec<[Vec<f32>; 2]> = heads.iter().map(HeadCache::whole).collect();
    Some([0, 1].map(|side| {
        let numbers = whole
            .iter()
            .map(|head| head[side].as_slice())
            .collect::<Vec<_>>()
            .concat();
        to_device(numbers, [batch, count, time, size], &new.device())
    }))
}
