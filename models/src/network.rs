//! A network that runs over a text block after block, wherever its weights are.

use std::{borrow::Cow, ops::Range};

use burn::tensor::{Device, Tensor};

use crate::{Block, Decoder, Result, RotaryAngles, decoder::slices};

/// A network that is taken apart: embedding, blocks, norm and head.
///
/// A [`Decoder`] lends the blocks that it holds; a [`Streamed`](crate::Streamed) network loads each when it
/// is asked for it. Both give the same numbers.
pub trait Network: Sync {
    /// How many blocks there are.
    fn layers(&self) -> usize;

    /// How many tokens there are.
    fn vocabulary(&self) -> usize;

    /// The device that its numbers are on.
    fn device(&self) -> Device;

    /// The residual stream before the first block, 1 × time × hidden.
    fn embed(&self, text: &[u32]) -> Result<Tensor<3>>;

    /// How positions turn queries and keys.
    fn angles(&self, positions: Range<usize>) -> RotaryAngles;

    /// A block; it lives no longer than whoever asks for it wants it to, unless the network holds it anyway.
    fn block(&self, layer: usize) -> Result<Cow<'_, Block>>;

    /// The norm after the last block.
    fn normed(&self, residual: Tensor<3>) -> Tensor<3>;

    /// The logits of some slices of positions, each positions × vocabulary, from what the norm gives,
    /// time × hidden.
    fn logits(&self, hidden: &Tensor<2>, slices: &[Range<usize>]) -> Result<Vec<Tensor<2>>>;

    /// How many slices it is best asked for at a time.
    fn slices_at_a_time(&self) -> usize;

    /// Slices of so many positions, each with few enough logits that those of a large vocabulary never
    /// fill memory: 16 MiB of them.
    fn slices(&self, positions: usize) -> Vec<Range<usize>> {
        slices(positions, self.vocabulary()).collect()
    }

    /// The decoder, where all of it is in memory.
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
        self.norm.forward(residual)
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
