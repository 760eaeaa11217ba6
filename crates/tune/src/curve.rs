//! The loss curve: what each step found, and what the held-out windows said now and then.

use serde::{Deserialize, Serialize};

/// A point of the loss curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps that were made; 0 for the look before the first.
    pub step: usize,
    /// The block that is distilled; none where the whole model is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// The learning rate.
    pub rate: f64,
    /// Mean loss of the step's windows, before it.
    pub loss: f64,
    /// Mean loss of the held-out windows, after it; not at every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
}

impl Point {
    /// The look at the held-out windows before the first step.
    pub(crate) const fn start(block: Option<usize>, held_out: f64) -> Self {
        Self {
            step: 0,
            block,
            rate: 0.0,
            loss: held_out,
            held_out: Some(held_out),
        }
    }
}

/// How many steps a curve has come; of a distillation, those of its last block.
#[must_use]
pub fn steps(curve: &[Point]) -> usize {
    curve.last().map_or(0, |point| point.step)
}

/// The least loss of the held-out windows.
#[must_use]
pub fn best(curve: &[Point]) -> Option<f64> {
    looks(curve).min_by(f64::total_cmp)
}

/// How many looks at the held-out windows there were since the best one.
pub(crate) fn looks_in_vain(curve: &[Point]) -> usize {
    let least = best(curve).unwrap_or(f64::INFINITY);
    looks(curve).rev().take_while(|&loss| loss > least).count()
}

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
    }
}
