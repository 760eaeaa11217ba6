//! The gated feed-forward layer, `SwiGLU`.

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
        let gated = Self::gated(&self.gate.forward(x.clone()), &self.up.forward(x));
        self.down.forward(gated)
    }

    /// `SwiGLU`: silu(gate) ⊙ up.
    #[must_use]
    pub fn gated(gate: &Tensor<3>, up: &Tensor<3>) -> Tensor<3> {
        let ours = || {
            let (g, u) = (plain(gate)?, plain(up)?);
            let mut gated = numbers(&g)?.to_vec();
            swiglu(&mut gated, numbers(&u)?);
            Some(tensor(gated, gate.dims()))
        };
        ours().unwrap_or_else(|| silu(gate.clone()) * up.clone())
    }

    /// Gradients by gate and up from the gradient by what [`gated`](Self::gated) gives.
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
