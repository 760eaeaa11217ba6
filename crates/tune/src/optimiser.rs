//! `AdamW` (Loshchilov & Hutter, 2019) over a list of matrices, with clipped gradients.
//!
//! Takes two numbers of state for each trained one.

use burn::{
    optim::{AdamW, AdamWConfig, AdamWState, Optimizer as _},
    tensor::Tensor,
};
use rayon::prelude::*;

use crate::{TrainingOptions, sums::square};

/// The update rule, and the moments of every matrix.
#[derive(Clone)]
pub struct Optimiser {
    rule: AdamW,
    clip: f64,
    /// Moments in the order of the matrices; none before the first step.
    pub states: Vec<Option<AdamWState<2>>>,
}

impl Optimiser {
    /// An optimiser without moments, for `count` matrices.
    #[must_use]
    pub fn new(options: &TrainingOptions, count: usize) -> Self {
        // Not burn's 1e-5: single numbers of a gradient that is clipped as a whole are often smaller.
        let rule = AdamWConfig::new()
            .with_epsilon(1e-8)
            .with_beta_2(0.95)
            .with_weight_decay(options.decay as f32);
        Self {
            rule: rule.build(),
            clip: options.clip,
            states: vec![None; count],
        }
    }

    /// The matrices after one step at a learning rate; gradients in the order of the matrices, clipped here.
    pub fn step(
        &mut self,
        rate: f64,
        values: Vec<Tensor<2>>,
        gradients: Vec<Tensor<2>>,
    ) -> Vec<Tensor<2>> {
        let squares: Vec<f64> = gradients.par_iter().map(square).collect();
        // One length over all matrices, so that clipping keeps the gradient's direction.
        let length = squares.iter().sum::<f64>().sqrt();
        let scale = (self.clip / length).min(1.0);
        let states = std::mem::take(&mut self.states);
        let one = |((value, gradient), state)| {
            let gradient: Tensor<2> = gradient;
            self.rule.step(rate, value, gradient * scale, state)
        };
        let (values, states) = values
            .into_par_iter()
            .zip(gradients)
            .zip(states)
            .map(one)
            .unzip();
        self.states = states;
        values
    }
}
