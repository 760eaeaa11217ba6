//! One block of the decoder: attention, then the feed-forward layer, each added to the residual stream.
//!
//! ```text
//! h ← h + attention(norm₁(h))
//! h ← h + feed_forward(norm₂(h))          h: batch × time × hidden
//! ```

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};
use compress_core::Role;

use crate::{
    Attention, FeedForward, Linear, decode::cache::LayerCache, norm::rms_norm, rotary::RotaryAngles,
};

/// A pre-norm transformer block with its seven linear layers.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention; its output is the layer input of query, key and value.
    pub attention_norm: RmsNorm,
    /// The part in which tokens read from earlier tokens.
    pub attention: Attention,
    /// Before the feed-forward layer; its output is the layer input of gate and up.
    pub feed_forward_norm: RmsNorm,
    /// The part that treats each token by itself.
    pub feed_forward: FeedForward,
}

impl Block {
    /// The residual stream behind the block from the one before it, batch × time × hidden.
    ///
    /// With a cache, x holds the tokens that follow those of the cache, and `angles` are those of their positions.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        angles: &RotaryAngles,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let normed = rms_norm(&self.attention_norm, x.clone());
        let x = x + self.attention.forward(normed, angles, cache);
        let normed = rms_norm(&self.feed_forward_norm, x.clone());
        x + self.feed_forward.forward(normed)
    }

    /// The linear layer of a role.
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

    /// The linear layer of a role, to be replaced or trained.
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
