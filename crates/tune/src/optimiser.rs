//! `AdamW` over a list of matrices, with clipped gradients.

use burn::{
    optim::{AdamW, AdamWConfig, AdamWState, Optimizer as _},
    tensor::Tensor,
};
use rayon::prelude::*;

use crate::{TrainingOptions, sums::square};

/// The moments of every matrix, beside the rule.
#[derive(Clone)]
pub struct Optimiser {
    rule: AdamW,
    clip: f64,
    /// In the order of the matrices; none before the first step.
    pub states: Vec<Option<AdamWState<2>>>,
}

impl Optimiser {
    /// Without any memory, for so many matrices.
    #[must_use]
    pub fn new(options: &TrainingOptions, count: usize) -> Self {
        // Not burn's 1e-5: gradients of many numbers are smaller than that, each by itself.
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

    /// The matrices after one step at the given rate.
    pub fn step(
        &mut self,
        rate: f64,
        values: Vec<Tensor<2>>,
        gradients: Vec<Tensor<2>>,
    ) -> Vec<Tensor<2>> {
        let squares: Vec<f64> = gradients.par_iter().map(square).collect();
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
