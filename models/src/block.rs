//! One block: attention, then the feed-forward layer, each added to the residual stream.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};
use compress_core::Role;

use crate::{Attention, FeedForward, Linear, decode::cache::LayerCache, rotary::RotaryAngles};

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
        angles: &RotaryAngles,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let x = x.clone()
            + self
                .attention
                .forward(self.attention_norm.forward(x), angles, cache);
        x.clone() + self.feed_forward.forward(self.feed_forward_norm.forward(x))
    }

    /// One of its weights.
    #[must_use]
    pub const fn linear(&self, role: Role) -> &Linear {
        let (attention, feed_forward) = (&self.attention, &self.feed_forward);
        match role {
            Role::Query => &attention.query,
            Role::Key => &attention.key,
            Role::Value => &attention.value,
            Role::Output => &attention.output,
            Role::Gate => &feed_forward.gate,
            Role::Up => &feed_forward.up,
            Role::Down => &feed_forward.down,
        }
    }

    /// One of its weights, to be changed.
    pub const fn linear_mut(&mut self, role: Role) -> &mut Linear {
        let (attention, feed_forward) = (&mut self.attention, &mut self.feed_forward);
        match role {
            Role::Query => &mut attention.query,
            Role::Key => &mut attention.key,
            Role::Value => &mut attention.value,
            Role::Output => &mut attention.output,
            Role::Gate => &mut feed_forward.gate,
            Role::Up => &mut feed_forward.up,
            Role::Down => &mut feed_forward.down,
        }
    }
}
