//! One block: attention, then the feed-forward layer, each added to the residual stream.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};

use crate::{Attention, FeedForward, cache::LayerCache, rotary::Turns};

/// A block of the decoder.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub attention_norm: RmsNorm,
    /// Tokens look at earlier tokens.
    pub attention: Attention,
    /// Before the feed-forward layer.
    pub feed_forward_norm: RmsNorm,
    /// Each token by itself.
    pub feed_forward: FeedForward,
}

impl Block {
    /// batch × time × hidden to the same.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        turns: &Turns,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let x = x.clone()
            + self
                .attention
                .forward(self.attention_norm.forward(x), turns, cache);
        x.clone() + self.feed_forward.forward(self.feed_forward_norm.forward(x))
    }
}
