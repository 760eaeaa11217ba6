//! A network taken block by block, whether its weights are in memory or on disk.

use std::{borrow::Cow, ops::Range};

use burn::tensor::{Device, Tensor};

use crate::{Block, Decoder, Result, RotaryAngles, decoder::slices, rms_norm};

/// A network in parts: embedding, blocks, last norm and head.
///
/// A [`Decoder`] lends the blocks that it holds; a [`Streamed`](crate::Streamed) network loads each when asked. Both
/// give the same numbers.
pub trait Network: Sync {
    /// Blocks in the network.
    fn layers(&self) -> usize;

    /// Tokens in the vocabulary.
    fn vocabulary(&self) -> usize;

    /// The device that activations are on.
    fn device(&self) -> Device;

    /// The residual stream before the first block, 1 × time × hidden. Fails on an empty text, and on a token outside
    /// the vocabulary.
    fn embed(&self, text: &[u32]) -> Result<Tensor<3>>;

    /// The rotary embedding's cosines and sines for a range of positions.
    fn angles(&self, positions: Range<usize>) -> RotaryAngles;

    /// The block of an index below [`layers`](Self::layers), borrowed or loaded for the caller alone. Loading reads
    /// all of its weights, so that callers pass all windows through a block before they ask for the next.
    fn block(&self, layer: usize) -> Result<Cow<'_, Block>>;

    /// The norm after the last block, in the shape of the residual stream.
    fn normed(&self, residual: Tensor<3>) -> Tensor<3>;

    /// Logits for ranges of positions, each range × vocabulary, from the residual stream behind the last norm, time ×
    /// hidden.
    fn logits(&self, hidden: &Tensor<2>, slices: &[Range<usize>]) -> Result<Vec<Tensor<2>>>;

    /// How many ranges to pass to [`logits`](Self::logits) at a time: more where they share the decoding of the head.
    fn slices_at_a_time(&self) -> usize;

    /// Ranges that cover so many positions, each with few enough logits (16 MiB, or one position) that those of a
    /// large vocabulary never fill memory.
    fn slices(&self, positions: usize) -> Vec<Range<usize>> {
        slices(positions, self.vocabulary()).collect()
    }

    /// The decoder, where all of it is in memory; batches then run through it in parallel.
    fn whole(&self) -> Option<&Decoder> {
        None
    }
}

impl Network for Decoder {
    fn layers(&self) -> usize {
        self.blocks.len()
    }

    fn vocabulary(&self) -> usize {
        Self::vocabulary(self)
    }

    fn device(&self) -> Device {
        Self::device(self)
    }

    fn embed(&self, text: &[u32]) -> Result<Tensor<3>> {
        Self::embed(self, &[text])
    }

    fn angles(&self, positions: Range<usize>) -> RotaryAngles {
        self.rotary.angles(positions, &Self::device(self))
    }

    fn block(&self, layer: usize) -> Result<Cow<'_, Block>> {
        Ok(Cow::Borrowed(&self.blocks[layer]))
    }

    fn normed(&self, residual: Tensor<3>) -> Tensor<3> {
        rms_norm(&self.norm, residual)
    }

    fn logits(&self, hidden: &Tensor<2>, slices: &[Range<usize>]) -> Result<Vec<Tensor<2>>> {
        let of = |slice: &Range<usize>| hidden.clone().narrow(0, slice.start, slice.len());
        Ok(slices
            .iter()
            .map(|slice| Self::logits(self, of(slice)))
            .collect())
    }

    fn slices_at_a_time(&self) -> usize {
        1
    }

    fn whole(&self) -> Option<&Decoder> {
        Some(self)
    }
}
