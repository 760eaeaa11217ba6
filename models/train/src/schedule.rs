//! The learning-rate schedule: linear warm-up over 100 steps, then a cosine to a tenth, over a given time.

use std::{f64::consts::PI, time::Instant};

/// The highest rate for a new model.
const PEAK: f64 = 4e-3;
/// Steps of the linear rise.
const WARM_UP: usize = 100;

/// A learning rate that depends on the time that has passed, not on a number of steps.
pub struct Schedule {
    start: Instant,
    seconds: f64,
    peak: f64,
    /// Steps done.
    pub step: usize,
}

impl Schedule {
    /// A schedule that starts now; for a trained model (`further`) the peak is half as high.
    pub fn new(minutes: f64, further: bool) -> Self {
        Self {
            start: Instant::now(),
            seconds: minutes * 60.0,
            peak: if further { PEAK / 2.0 } else { PEAK },
            step: 0,
        }
    }

    /// Counts a step.
    pub fn advance(&mut self) {
        self.step += 1;
    }

    /// Whether the time is over.
    pub fn finished(&self) -> bool {
        self.start.elapsed().as_secs_f64() >= self.seconds
    }

    /// The rate of the next step; none when the time is over.
    pub fn rate(&self) -> Option<f64> {
        let progress = self.start.elapsed().as_secs_f64() / self.seconds;
        let rise = ((self.step + 1) as f64 / WARM_UP as f64).min(1.0);
        // From 1 at the start to 0.1 at the end.
        let fall = 0.55 + 0.45 * (PI * progress).cos();
        (progress < 1.0).then_some(self.peak * rise * fall)
    }
}
