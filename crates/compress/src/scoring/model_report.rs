//! The figures of one model.

use anyhow::Result;
use compress_checkpoint::Checkpoint;
use compress_evaluate::{Divergence, Latency, Needles, Perplexity};
use serde::Serialize;

use crate::loaded::CacheReport;

/// What a model that is whole in memory costs to run.
#[derive(Clone, Copy)]
pub struct Costs {
    /// The time per token.
    pub latency: Latency,
    /// Bytes on a GPU.
    pub device_bytes: Option<usize>,
    /// The size of its cache, where windows have a prompt.
    pub cache: Option<CacheReport>,
}

/// The figures of one model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// Perplexity, and the speed of scoring.
    #[serde(flatten)]
    pub score: Perplexity,
    /// Bytes of the weight files.
    pub bytes: usize,
    /// Bytes of the weights of the blocks, which are what methods change.
    pub block_bytes: usize,
    /// Numbers that these weights have when multiplied out: bits per weight are bytes · 8 by them.
    pub block_weights: usize,
    /// Numbers in the weight files.
    pub parameters: usize,
    /// Divergence from the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Divergence>,
    /// Whether its blocks were loaded one after the other, since it does not fit in memory whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub streamed: bool,
    /// Bytes of its weights in the memory of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<usize>,
    /// Time per token of generating; of a model that is whole in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The size of its cache behind the first window, where windows have a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheReport>,
    /// Needles that were hidden in prompts and asked for, where any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needles: Option<Needles>,
}

impl ModelReport {
    /// The figures of a model. Streamed models are those without a time per token.
    pub fn new(
        model: &Checkpoint,
        score: Perplexity,
        kl: Option<Divergence>,
        costs: Option<Costs>,
    ) -> Result<Self> {
        let (block_bytes, block_weights) = model.block_weights()?;
        Ok(Self {
            score,
            bytes: model.file_bytes(),
            block_bytes,
            block_weights,
            parameters: model.parameters(),
            kl,
            streamed: costs.is_none(),
            device_bytes: costs.and_then(|costs| costs.device_bytes),
            latency: costs.map(|costs| costs.latency),
            cache: costs.and_then(|costs| costs.cache),
            needles: None,
        })
    }
}
