//! Models that are ready to be run: whole where memory holds them, else block by block.
//!
//! `scoring` loads them here. Both ways give the same figures; streamed models take less memory, and no time per
//! token is measured with them.

use anyhow::{Context as _, Result};
use compress_checkpoint::Checkpoint;
use compress_core::f16;
use compress_evaluate::{Latency, ScoringFootprint, cache_of, latency};
use compress_models::{Cache, Decoder, Device, LayerCache, Network, Streamed};
use serde::Serialize;

use crate::{allocator::freed_by, memory::Memory, report::size};

/// The size of a key-value cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheReport {
    /// Tokens that were read into it.
    pub tokens: usize,
    /// Bytes that the allocator got back when it was let go of.
    pub bytes: usize,
    /// Bytes of a cache that keeps all of it in 16-bit floats, as other programs do.
    pub f16_bytes: usize,
}

/// Some models, all of them loaded in the same way.
pub enum Loaded<'a> {
    /// All weights in memory; and the bytes that each model takes on a GPU, by the account of its allocator.
    Whole(Vec<Decoder>, Vec<Option<usize>>),
    /// Blocks on disk, each loaded when it is needed; and how many windows go through a block at a time.
    Streamed(Vec<Streamed<'a>>, usize),
}

impl<'a> Loaded<'a> {
    /// Loads models whose footprint is `need`: whole if `memory` holds all of them, else open on disk. Fails where
    /// not even one window fits beside a block.
    pub fn load(
        models: &[&'a Checkpoint],
        need: &ScoringFootprint<'_>,
        memory: Memory,
        device: &Device,
        quiet: bool,
    ) -> Result<Self> {
        let each = models.iter();
        // Preferred: only whole models can be timed, and blocks are read once.
        if memory.holds(need.whole()) {
            let whole = each.map(|model| {
                let before = on_device(device);
                let decoder = Decoder::load_fixed(model, need.mixtures, device)?;
                let after = on_device(device);
                let taken = after
                    .zip(before)
                    .map(|(after, before)| after.saturating_sub(before));
                anyhow::Ok((decoder, taken))
            });
            let whole: Vec<_> = whole.collect::<Result<_>>()?;
            let (decoders, bytes) = whole.into_iter().unzip();
            return Ok(Self::Whole(decoders, bytes));
        }
        let batch = batch(need, memory)?;
        if !quiet {
            tell!(
                "whole models would take {} of memory, and {} may be used: they go block by block, {batch} windows at a time, in about {}",
                size(need.whole()),
                size(memory.bytes()),
                size(need.streamed(batch))
            );
        }
        let streamed = each.map(|model| Streamed::open(model, device));
        Ok(Self::Streamed(streamed.collect::<Result<_, _>>()?, batch))
    }

    /// The bytes that each model takes on a GPU; none on the CPU and of streamed models.
    pub fn device_bytes(&self) -> Vec<Option<usize>> {
        match self {
            Self::Whole(_, bytes) => bytes.clone(),
            Self::Streamed(..) => Vec::new(),
        }
    }

    /// The models, in their order.
    pub fn networks(&self) -> Vec<&dyn Network> {
        match self {
            Self::Whole(decoders, _) => decoders.iter().map(|each| each as &dyn Network).collect(),
            Self::Streamed(each, _) => each.iter().map(|each| each as &dyn Network).collect(),
        }
    }

    /// How many windows go through a block that is loaded for them; whole models have no use for it.
    pub const fn batch(&self) -> usize {
        match self {
            Self::Whole(..) => 1,
            Self::Streamed(_, batch) => *batch,
        }
    }

    /// What the cache of each model takes that has read a window, the first `split` tokens as a prompt; none for streamed
    /// models.
    pub fn caches(&self, window: &[u32], split: usize) -> Result<Vec<CacheReport>> {
        let Self::Whole(decoders, _) = self else {
            return Ok(Vec::new());
        };
        let one = |decoder: &Decoder| {
            let cache = cache_of(decoder, window, split)?;
            let per_token = decoder
                .blocks
                .iter()
                .map(|block| block.attention.cached_numbers());
            Ok(CacheReport {
                tokens: cache.len(),
                bytes: cache_bytes(cache),
                f16_bytes: size_of::<f16>() * window.len() * per_token.sum::<usize>(),
            })
        };
        decoders.iter().map(one).collect()
    }

    /// The time per new token of each model, over `count` tokens; none for streamed ones, where each token would take
    /// loading the whole model.
    pub fn latency(&self, prompt: &[u32], count: usize) -> Result<Vec<Latency>> {
        match self {
            Self::Whole(decoders, _) => {
                let decoders: Vec<&Decoder> = decoders.iter().collect();
                Ok(latency(&decoders, prompt, count)?)
            }
            Self::Streamed(..) => Ok(Vec::new()),
        }
    }
}

/// What a cache takes: of the host's memory what is given back when it goes, and its tensors on a GPU.
pub fn cache_bytes(cache: Cache) -> usize {
    let layers = cache.into_layers();
    let on_device: usize = layers.iter().map(LayerCache::device_bytes).sum();
    on_device + freed_by(layers)
}

/// Bytes that a GPU's allocator has given out; none on the CPU.
fn on_device(device: &Device) -> Option<usize> {
    let usage = device.memory_pool_usage()?;
    Some(usage.bytes_in_use as usize)
}

/// How many windows fit beside a block; an error where not even one does.
pub fn batch(need: &ScoringFootprint<'_>, memory: Memory) -> Result<usize> {
    need.batch(memory.bytes()).with_context(|| {
        format!(
            "evaluation needs {} of memory even block by block, and may use {}; give more --memory, or a smaller --ctx",
            size(need.streamed(1)),
            size(memory.bytes())
        )
    })
}
