//! The gated feed-forward layer, `SwiGLU` (Shazeer, arXiv 2002.05202).
//!
//! ```text
//! y = W_down (silu(W_gate x) ⊙ W_up x)        silu(z) = z / (1 + exp(−z))
//! ```
//!
//! Each token by itself; the intermediate activations, tokens × intermediate, are the largest of a block.

use burn::{
    module::Module,
    tensor::{Tensor, activation::silu},
};

use compress_numerics::kernels::{swiglu, swiglu_backward};

use crate::{
    Linear,
    host::{numbers, plain, tensor},
    vjp,
};

/// down(silu(gate x) ⊙ up x); weights are out × in.
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
    /// batch × time × hidden to the same shape.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gated = Self::gated(&self.gate.forward(x.clone()), &self.up.forward(x));
        self.down.forward(gated)
    }

    /// The layer input of down, silu(gate) ⊙ up, from the outputs of gate and up; any shape, the same for both.
    #[must_use]
    pub fn gated(gate: &Tensor<3>, up: &Tensor<3>) -> Tensor<3> {
        // One sweep over the numbers, without burn's intermediate tensors; not for a GPU, nor under autodiff.
        let ours = || {
            let (g, u) = (plain(gate)?, plain(up)?);
            let mut gated = numbers(&g)?.to_vec();
            swiglu(&mut gated, numbers(&u)?);
            Some(tensor(gated, gate.dims()))
        };
        ours().unwrap_or_else(|| silu(gate.clone()) * up.clone())
    }

    /// The vjp of [`gated`](Self::gated): gradients by the outputs of gate and up (`branches`), from the gradient by
    /// the layer input of down.
    #[must_use]
    pub fn gated_backward(branches: &[Tensor<3>; 2], gradient: &Tensor<3>) -> [Tensor<3>; 2] {
        let [gate, up] = branches;
        let ours = || {
            let (g, u, by) = (plain(gate)?, plain(up)?, plain(gradient)?);
            let (mut by_gate, mut by_up) = (numbers(&g)?.to_vec(), numbers(&u)?.to_vec());
            swiglu_backward(&mut by_gate, &mut by_up, numbers(&by)?);
            Some([tensor(by_gate, gate.dims()), tensor(by_up, up.dims())])
        };
        ours().unwrap_or_else(|| {
            vjp(branches.clone(), gradient.clone(), |[gate, up]| {
                Self::gated(&gate, &up)
            })
        })
    }
}
