//! The loss curve of a training: the loss of each step, and that of the held-out windows at intervals.

use serde::{Deserialize, Serialize};

use crate::Diverged;

/// A point of the loss curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps made so far; 0 for the evaluation before the first.
    pub step: usize,
    /// The block that is distilled; none where the whole model is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// The learning rate of the step.
    pub rate: f64,
    /// Mean loss of the step's windows, before the step; NaN or infinite where training diverged.
    pub loss: f64,
    /// Mean loss of the held-out windows after the step, where it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
}

impl Point {
    /// The evaluation of the held-out windows before the first step.
    pub(crate) const fn start(block: Option<usize>, held_out: f64) -> Self {
        Self {
            step: 0,
            block,
            rate: 0.0,
            loss: held_out,
            held_out: Some(held_out),
        }
    }

    /// The point after a step, counted from 0, with the losses of its windows and of the held-out ones. A held-out
    /// loss that is not finite is kept as the loss, so that divergence shows in one place.
    pub(crate) fn after(
        step: usize,
        block: Option<usize>,
        rate: f64,
        (loss, held_out): (f64, Option<f64>),
    ) -> Self {
        let last = held_out.unwrap_or(loss);
        Self {
            step: step + 1,
            block,
            rate,
            loss: if last.is_finite() { loss } else { last },
            held_out: held_out.filter(|found| found.is_finite()),
        }
    }
}

/// Steps of a curve; of a distillation, those of its last block.
#[must_use]
pub fn steps(curve: &[Point]) -> usize {
    curve.last().map_or(0, |point| point.step)
}

/// The lowest held-out loss; none in an empty curve.
#[must_use]
pub fn best(curve: &[Point]) -> Option<f64> {
    looks(curve).min_by(f64::total_cmp)
}

/// The divergence of a curve: its last point, where that has a loss that is not finite.
pub(crate) fn diverged(curve: &[Point]) -> Option<Diverged> {
    let last = curve.last().filter(|point| !point.loss.is_finite())?;
    Some(Diverged {
        block: last.block,
        step: last.step.saturating_sub(1),
        loss: last.loss,
    })
}

/// Whether a held-out loss is below the one that the curve starts from.
pub(crate) fn improved(curve: &[Point]) -> bool {
    let mut looks = looks(curve);
    looks
        .next()
        .is_some_and(|start| looks.any(|loss| loss < start))
}

/// Evaluations of the held-out windows since the best one: early stopping compares them with the patience.
pub(crate) fn looks_in_vain(curve: &[Point]) -> usize {
    let least = best(curve).unwrap_or(f64::INFINITY);
    looks(curve).rev().take_while(|&loss| loss > least).count()
}

/// The held-out losses of a curve, in order.
fn looks(curve: &[Point]) -> impl DoubleEndedIterator<Item = f64> {
    curve.iter().filter_map(|point| point.held_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_in_vain_since_the_best() {
        let looks = [(0, 3.0), (5, 2.0), (10, 2.5), (15, 2.25)];
        let point = |(step, held_out)| Point {
            step,
            ..Point::start(None, held_out)
        };
        let curve = looks.map(point);
        assert_eq!(looks_in_vain(&curve), 2);
        assert_eq!(looks_in_vain(&curve[..2]), 0);
        assert_eq!((best(&curve), steps(&curve)), (Some(2.0), 15));
        assert_eq!((best(&[]), steps(&[])), (None, 0));
        assert!(improved(&curve) && !improved(&curve[..1]) && !improved(&[]));
    }
}
