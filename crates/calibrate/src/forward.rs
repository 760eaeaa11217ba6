//! One block's way through a window, with everything that is met on the way.

use burn::tensor::Tensor;
use compress_core::Inlet;
use compress_models::{Block, FeedForward, Turns};

/// What a block computes for a window; all 1 × time × width.
pub struct Walk {
    /// The residual stream that goes in.
    pub residual: Tensor<3>,
    /// What enters query, key and value.
    pub attention: Tensor<3>,
    /// What query, key and value give.
    pub projections: [Tensor<3>; 3],
    /// What enters the output weight.
    pub mixed: Tensor<3>,
    /// The residual stream between attention and feed-forward layer.
    pub middle: Tensor<3>,
    /// What enters gate and up.
    pub feed_forward: Tensor<3>,
    /// What gate and up give.
    pub branches: [Tensor<3>; 2],
    /// What enters the down weight.
    pub gated: Tensor<3>,
    /// The residual stream that comes out.
    pub next: Tensor<3>,
}

/// Runs a block over a window.
#[must_use]
pub fn walk(block: &Block, residual: Tensor<3>, turns: &Turns) -> Walk {
    let (a, f) = (&block.attention, &block.feed_forward);
    let attention = block.attention_norm.forward(residual.clone());
    let projections = [&a.query, &a.key, &a.value].map(|weight| weight.forward(attention.clone()));
    let [query, key, value] = projections.clone();
    let mixed = a.mix(query, key, value, turns, None);
    let middle = residual.clone() + a.output.forward(mixed.clone());
    let feed_forward = block.feed_forward_norm.forward(middle.clone());
    let branches = [&f.gate, &f.up].map(|weight| weight.forward(feed_forward.clone()));
    let [gate, up] = &branches;
    let gated = FeedForward::gated(gate, up);
    let next = middle.clone() + f.down.forward(gated.clone());
    Walk {
        residual,
        attention,
        projections,
        mixed,
        middle,
        feed_forward,
        branches,
        gated,
        next,
    }
}

impl Walk {
    /// The activations at an inlet.
    #[must_use]
    pub fn stream(&self, inlet: Inlet) -> Tensor<3> {
        match inlet {
            Inlet::Attention => &self.attention,
            Inlet::Output => &self.mixed,
            Inlet::FeedForward => &self.feed_forward,
            Inlet::Down => &self.gated,
        }
        .clone()
    }
}
