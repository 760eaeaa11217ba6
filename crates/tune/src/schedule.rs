//! The learning-rate schedule: a linear rise, then a cosine down to a tenth.

use std::f64::consts::PI;

use crate::TrainingOptions;

/// The learning rate of every step; a function of the step alone, so that a run that goes on has the same.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    peak: f64,
    warm_up: usize,
    steps: usize,
}

impl Schedule {
    /// The schedule that the options ask for.
    #[must_use]
    pub const fn new(options: &TrainingOptions) -> Self {
        Self {
            peak: options.rate,
            warm_up: options.warm_up,
            steps: options.steps,
        }
    }

    /// The rate of a step, counted from 0.
    #[must_use]
    pub fn rate(self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        // At least 1, where all steps belong to the rise.
        let left = self.steps.saturating_sub(self.warm_up).max(1);
        let progress = (step - self.warm_up) as f64 / left as f64;
        // From 1 down to 0.1.
        self.peak * (0.55 + 0.45 * (PI * progress.min(1.0)).cos())
    }
}
