//! The `SwiGLU` activation of a gated feed-forward layer (Shazeer 2020, arXiv 2002.05202), and its backward pass.
//!
//! ```text
//! y = silu(g) ⊙ u,   silu(g) = g σ(g),   σ(g) = 1 / (1 + e^−g)
//! ∂u = ∂y g σ(g)     ∂g = ∂y u σ(g) (1 + g (1 − σ(g)))
//! ```
//!
//! One pass over the numbers, in place, with exponentials in vector instructions: a call of `expf` for each
//! took a tenth of a pass through a network.

use super::{exponential::exp, vectorized};

/// silu(gate) ⊙ up, written over the gate; stops at the shorter slice.
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (g, u) in gate.iter_mut().zip(up) {
                *g *= u * sigmoid(*g);
            }
        },
    );
}

/// The vjp: from the gradient by the result, those by gate and by up, written over their places.
pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], gradient: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for ((g, u), by) in gate.iter_mut().zip(up).zip(gradient) {
                let s = sigmoid(*g);
                let by_up = by * *g * s;
                *g = by * *u * s * (1.0 + *g * (1.0 - s));
                *u = by_up;
            }
        },
    );
}

#[expect(
    clippy::inline_always,
    reason = "it becomes vector instructions only where it is inlined"
)]
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    (1.0 + exp(-x)).recip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn naive(g: f32, u: f32) -> f64 {
        f64::from(g) * f64::from(u) / (1.0 + (-f64::from(g)).exp())
    }

    /// Small and large ones, either sign, and a length that fills no vector.
    fn numbers(seed: u64) -> Vec<f32> {
        let mut random = Random(seed);
        let some = (0..77).map(|i| random.normal() * [0.01, 1.0, 30.0][i % 3]);
        some.chain([0.0, -100.0, 100.0]).collect()
    }

    #[test]
    fn it_is_what_its_formula_says() {
        let (mut gate, up) = (numbers(1), numbers(2));
        let expected: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| naive(*g, *u)).collect();
        swiglu(&mut gate, &up);
        for (found, expected) in gate.iter().zip(expected) {
            let apart = (f64::from(*found) - expected).abs();
            assert!(apart <= 1e-6 * expected.abs() + 1e-30, "{found} {expected}");
        }
    }

    #[test]
    fn the_way_back_is_its_slope() {
        let (gate, up, by) = (numbers(3), numbers(4), numbers(5));
        let (mut by_gate, mut by_up) = (gate.clone(), up.clone());
        swiglu_backward(&mut by_gate, &mut by_up, &by);
        let slope = |f: &dyn Fn(f64) -> f64| (f(1e-4) - f(-1e-4)) / 2e-4;
        for i in 0..gate.len() {
            let (g, u, by) = (f64::from(gate[i]), f64::from(up[i]), f64::from(by[i]));
            let y = |g: f64, u: f64| g * u / (1.0 + (-g).exp());
            let expected = [slope(&|d| by * y(g + d, u)), slope(&|d| by * y(g, u + d))];
            for (found, expected) in [by_gate[i], by_up[i]].into_iter().zip(expected) {
                let apart = (f64::from(found) - expected).abs();
                assert!(apart <= 1e-5 * (expected.abs() + 1.0), "{found} {expected}");
            }
        }
    }
}
