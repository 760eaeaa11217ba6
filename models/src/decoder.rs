//! The whole network, from tokens to logits, with all weights in memory.
//!
//! ```text
//! h = embedding[token]       batch × time × hidden
//! h ← block(h)               for every block
//! logits = head(norm(h))     tokens × vocabulary
//! ```
//!
//! A forward pass costs about 2 · parameters operations per token and attention's time²; logits of a large vocabulary
//! are taken in slices, so that they never fill memory.

use std::{ops::Range, sync::Arc};

use burn::{
    module::Module,
    nn::RmsNorm,
    tensor::{Device, Tensor},
};
use compress_think::Policy;

use crate::{Block, Cache, Error, Linear, Result, Rotary, Weight, decode::token, rms_norm};

/// A decoder of the Llama family with all of its weights on a device.
#[derive(Module, Debug)]
pub struct Decoder {
    /// vocabulary × hidden.
    pub embedding: Weight,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// The root-mean-square norm between the last block and the head.
    pub norm: RmsNorm,
    /// hidden → vocabulary; none where the head is tied to the embedding.
    pub head: Option<Linear>,
    /// The rotary embedding of queries and keys.
    pub rotary: Rotary,
    /// What its caches keep; all of it where there is none.
    #[module(skip)]
    pub policy: Option<Arc<Policy>>,
}

impl Decoder {
    /// The residual stream after the last norm, batch × time × hidden, for texts of equal length.
    ///
    /// Fails where texts are empty or of different lengths, and on a token that the vocabulary does not have.
    pub fn hidden(&self, texts: &[&[u32]]) -> Result<Tensor<3>> {
        let mut x = self.embed(texts)?;
        let angles = self.rotary.angles(0..x.dims()[1], &x.device());
        for block in &self.blocks {
            x = block.forward(x, &angles, None);
        }
        Ok(rms_norm(&self.norm, x))
    }

    /// The same, 1 × time × hidden, for the next tokens of the text whose beginning the cache holds.
    ///
    /// The cache holds these tokens afterwards. One token on the CPU takes the kernels of decoding, anything else the
    /// blocks' own forward pass. Fails as [`hidden`](Self::hidden) does, and then leaves the cache as it was; and where the
    /// cache has the policy of another network, or one that does not run on the device. A device that fails leaves it empty.
    pub fn hidden_after(&self, cache: &mut Cache, tokens: &[u32]) -> Result<Tensor<3>> {
        self.hidden_after_all(cache, &[tokens])
    }

    /// The same for the next tokens of several texts, equally many of each, batch × time × hidden. One cache holds the
    /// beginnings of all of them, which must have been as many, and as long.
    pub fn hidden_after_all(&self, cache: &mut Cache, texts: &[&[u32]]) -> Result<Tensor<3>> {
        cache.prepare(self)?;
        let mut x = self.embed(texts)?;
        if let Some(hidden) = token::hidden_after(self, cache, &x) {
            return Ok(hidden);
        }
        let positions = cache.length..cache.length + x.dims()[1];
        cache.length = positions.end;
        let angles = self.rotary.angles(positions, &x.device());
        for (block, layer) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.forward(x, &angles, Some(layer));
        }
        cache.fail_with_device()?;
        Ok(rms_norm(&self.norm, x))
    }

    /// Ranges that cover so many positions, each with few enough logits (16 MiB, or one position) that those of a
    /// large vocabulary never fill memory.
    pub fn slices(&self, positions: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        slices(positions, self.vocabulary())
    }

    /// The head: tokens × hidden, after the last norm, to tokens × vocabulary. Callers take the tokens in
    /// [`slices`](Self::slices).
    #[must_use]
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = match &self.head {
            Some(head) => (&head.weight, head.bias.as_ref()),
            None => (&self.embedding, None),
        };
        // One token on the CPU: matrix times vector, as in decoding.
        token::logits(weight, bias, &hidden).unwrap_or_else(|| match &self.head {
            Some(head) => head.forward(hidden),
            None => weight.forward(hidden),
        })
    }

    /// The vjp of the head: the gradient by its input, tokens × hidden, from the gradient by logits, tokens ×
    /// vocabulary.
    #[must_use]
    pub fn logits_backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.backward(gradient),
            None => self.embedding.backward(gradient),
        }
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.embedding.shape().rows
    }

    /// The device that the weights are on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.norm.gamma.device()
    }

    /// The residual stream before the first block, batch × time × hidden; fails as [`hidden`](Self::hidden) does.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Tensor<3>> {
        let (tokens, length) = joined(texts, self.vocabulary())?;
        let rows = self.embedding.rows(&tokens, &self.device())?;
        let hidden = rows.dims()[1];
        Ok(rows.reshape([texts.len(), length, hidden]))
    }
}

/// The tokens of texts one after the other, and the length that all have. Fails where lengths differ or are 0, and on
/// a token outside the vocabulary.
pub fn joined(texts: &[&[u32]], vocabulary: usize) -> Result<(Vec<u32>, usize)> {
    let tokens = texts.concat();
    if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
        return Err(Error::Token { token, vocabulary });
    }
    let length = texts.first().map_or(0, |text| text.len());
    if length == 0 || texts.iter().any(|text| text.len() != length) {
        return Err(Error::Lengths);
    }
    Ok((tokens, length))
}

/// Logits in a slice of positions, at most unless one position has more: 16 MiB of `f32`.
pub const SLICE: usize = 1 << 22;

/// Ranges that cover so many positions, each with at most [`SLICE`] logits, or of one position.
pub fn slices(positions: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let step = (SLICE / vocabulary.max(1)).max(1);
    (0..positions)
        .step_by(step)
        .map(move |first| first..(first + step).min(positions))
}
