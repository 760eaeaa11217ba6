//! The whole network, from tokens to logits.

use std::ops::Range;

use burn::{
    module::Module,
    nn::RmsNorm,
    tensor::{Device, Tensor},
};

use crate::{Block, Cache, Error, Linear, Result, Rotary, Weight, decode::token};

/// A decoder with its weights on a device.
#[derive(Module, Debug)]
pub struct Decoder {
    /// vocabulary × hidden
    pub embedding: Weight,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub norm: RmsNorm,
    /// hidden → vocabulary; the embedding itself where absent.
    pub head: Option<Linear>,
    /// How positions turn queries and keys.
    pub rotary: Rotary,
}

impl Decoder {
    /// The residual stream after the last norm, batch × time × hidden, for texts of equal length.
    pub fn hidden(&self, texts: &[&[u32]]) -> Result<Tensor<3>> {
        let mut x = self.embed(texts)?;
        let angles = self.rotary.angles(0..x.dims()[1], &x.device());
        for block in &self.blocks {
            x = block.forward(x, &angles, None);
        }
        Ok(self.norm.forward(x))
    }

    /// The same for the next tokens of one text whose beginning the cache remembers.
    pub fn hidden_after(&self, cache: &mut Cache, tokens: &[u32]) -> Result<Tensor<3>> {
        let mut x = self.embed(&[tokens])?;
        if let Some(hidden) = token::hidden_after(self, cache, &x) {
            return Ok(hidden);
        }
        cache
            .layers
            .resize_with(self.blocks.len(), Default::default);
        let positions = cache.length..cache.length + tokens.len();
        cache.length = positions.end;
        let angles = self.rotary.angles(positions, &x.device());
        for (block, layer) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.forward(x, &angles, Some(layer));
        }
        Ok(self.norm.forward(x))
    }

    /// Slices of so many positions, each with few enough logits that those of a large vocabulary never
    /// fill memory: 16 MiB of them.
    pub fn slices(&self, positions: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        slices(positions, self.vocabulary())
    }

    /// tokens × hidden to tokens × vocabulary. Callers take the tokens in [`slices`](Self::slices).
    #[must_use]
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = match &self.head {
            Some(head) => (&head.weight, head.bias.as_ref()),
            None => (&self.embedding, None),
        };
        token::logits(weight, bias, &hidden).unwrap_or_else(|| match &self.head {
            Some(head) => head.forward(hidden),
            None => weight.forward(hidden),
        })
    }

    /// From gradients by logits to gradients by what enters the head: tokens × vocabulary to
    /// tokens × hidden.
    #[must_use]
    pub fn logits_backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.backward(gradient),
            None => self.embedding.backward(gradient),
        }
    }

    /// How many tokens there are.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.embedding.shape().rows
    }

    /// The device that the weights are on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.norm.gamma.device()
    }

    /// The residual stream before the first block, batch × time × hidden.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Tensor<3>> {
        let (tokens, length) = joined(texts, self.vocabulary())?;
        let rows = self.embedding.rows(&tokens, &self.device())?;
        let hidden = rows.dims()[1];
        Ok(rows.reshape([texts.len(), length, hidden]))
    }
}

/// The tokens of texts one after the other, and the length that all have; an error where they have not, or
/// one is outside the vocabulary.
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

/// About how many logits a slice of positions has: 16 MiB of them.
pub const SLICE: usize = 1 << 22;

/// Slices of so many positions, each with about [`SLICE`] logits.
pub fn slices(positions: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let step = (SLICE / vocabulary.max(1)).max(1);
    (0..positions)
        .step_by(step)
        .map(move |first| first..(first + step).min(positions))
}
