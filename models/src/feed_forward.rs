//! The gated feed-forward layer, `SwiGLU`.

use burn::{
    module::Module,
    tensor::{Tensor, activation::silu},
};

use crate::Linear;

/// down(silu(gate x) ⊙ up x)
#[derive(Module, Debug)]
pub struct FeedForward {
    /// hidden → intermediate
    pub gate: Linear,
    /// hidden → intermediate
    pub up: Linear,
    /// intermediate → hidden
    pub down: Linear,
}

impl FeedForward {
    /// batch × time × hidden to the same.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gated = Self::gated(self.gate.forward(x.clone()), self.up.forward(x));
        self.down.forward(gated)
    }

    /// What lies between the projections: silu(gate) ⊙ up.
    #[must_use]
    pub fn gated(gate: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
        silu(gate) * up
    }
}
