//! The trace of a block: one window's forward pass with all of its activations kept.

use burn::tensor::Tensor;
use compress_core::InputKind;
use compress_models::{Block, FeedForward, RotaryAngles, rms_norm};

/// All activations of a block for one window, each 1 × time × width: all that measuring and a backward pass need.
pub struct BlockTrace {
    /// The residual stream before the block.
    pub residual: Tensor<3>,
    /// The layer input of query, key and value.
    pub attention: Tensor<3>,
    /// The outputs of query, key and value, before head norms and rotary embedding.
    pub projections: [Tensor<3>; 3],
    /// The layer input of output.
    pub attended: Tensor<3>,
    /// The residual stream between attention and feed-forward layer.
    pub middle: Tensor<3>,
    /// The layer input of gate and up.
    pub feed_forward: Tensor<3>,
    /// The outputs of gate and up.
    pub branches: [Tensor<3>; 2],
    /// The layer input of down.
    pub gated: Tensor<3>,
    /// The residual stream behind the block.
    pub next: Tensor<3>,
}

/// Runs a block over a window, 1 × time × hidden, and keeps all activations.
#[must_use]
pub fn trace(block: &Block, residual: Tensor<3>, angles: &RotaryAngles) -> BlockTrace {
    let (a, f) = (&block.attention, &block.feed_forward);
    let attention = rms_norm(&block.attention_norm, residual.clone());
    let projections = [&a.query, &a.key, &a.value].map(|weight| weight.forward(attention.clone()));
    let [query, key, value] = projections.clone();
    let attended = a.attend(query, key, value, angles, None);
    let middle = residual.clone() + a.output.forward(attended.clone());
    let feed_forward = rms_norm(&block.feed_forward_norm, middle.clone());
    let branches = [&f.gate, &f.up].map(|weight| weight.forward(feed_forward.clone()));
    let [gate, up] = &branches;
    let gated = FeedForward::gated(gate, up);
    let next = middle.clone() + f.down.forward(gated.clone());
    BlockTrace {
        residual,
        attention,
        projections,
        attended,
        middle,
        feed_forward,
        branches,
        gated,
        next,
    }
}

impl BlockTrace {
    /// The activations at a layer input.
    #[must_use]
    pub fn input(&self, kind: InputKind) -> Tensor<3> {
        match kind {
            InputKind::Attention => &self.attention,
            InputKind::Output => &self.attended,
            InputKind::FeedForward => &self.feed_forward,
            InputKind::Down => &self.gated,
        }
        .clone()
    }
}
