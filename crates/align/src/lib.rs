//! Attention heads of all layers turned towards each other, without changing what a model computes.
//!
//! ```text
//! minimise  Σ_l ‖T_l W_l − c_l D − R_l‖²      W_l: value and output of layer l, by heads
//! T_l       a permutation of the heads and an orthogonal matrix for each (heads.rs)
//! D         an atom for each of the two, which all layers share;  R_l of a given rank
//! ```
//!
//! The basis of what a head gives is of no consequence to a model: value can be turned and output turned back. Layers
//! that were trained have bases, and orders of heads, that have nothing to do with each other; turned towards each other,
//! a shared atom leaves less of them, at no price. What a low-rank residual takes care of need not be alike: turns, atom
//! and residuals are fitted in turns, each to the others, and no step makes the error larger. It begins with each layer
//! turned towards the sum of those before it.
//!
//! Query and key go with their heads, and have no say: what rotary embedding leaves free in them, rotations of pairs,
//! makes hardly any difference (docs/RESULTS.md).
//!
//! Memory: an atom of value and output, twice, and a layer. Time for each round and layer: a product with the atom and four
//! truncations, and a singular value decomposition for each pair of heads.
//!
//! ```
//! use compress_align::{Heads, Options, align};
//! use compress_numerics::Random;
//!
//! let heads = Heads { key_value: 2, queries: 1, size: 4 };
//! let layer = |l: usize| Ok([0, 1].map(|side| Random(2 * l as u64 + side).matrix(8, 12)));
//! let options = Options { residual: 0.3, rounds: 5 };
//! let found = align(3, heads, &layer, options, &|| {})?;
//! assert!(found.left.last() < found.left.first());
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! The symmetry is that of model merging: Ainsworth et al., *Git Re-Basin*, arXiv 2209.04836, for permutations;
//! Schönemann 1966 for the turns. MASA (arXiv 2508.04581) takes layers as they are.

mod assignment;
mod common;
mod fit;
mod heads;

use compress_core::{Matrix, Result};

pub use heads::{Heads, Turn};

use common::{Common, Part};

/// Value, and output transposed: of both, rows by heads.
pub type Sides = [Matrix; 2];

/// What decides an alignment.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// ρ: residuals have rank ⌊ρ m n / (m + n)⌋, as masa's.
    pub residual: f64,
    /// Rounds at most.
    pub rounds: usize,
}

/// Turns of layers, and what they gain.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// A turn for each layer.
    pub turns: Vec<Turn>,
    /// The share of value and output that atom and residuals leave, the mean of the two, after each round.
    pub left: Vec<f64>,
}

/// A gain in a round, as a share of what is left, that is worth no further one.
const SMALL: f64 = 1e-3;

/// Turns the heads of some layers towards each other. `layer` loads one, `done` is called for each that was looked at,
/// (rounds + 2) · layers times at most.
///
/// Fails where a layer cannot be loaded, has another shape, or is not finite.
pub fn align(
    layers: usize,
    heads: Heads,
    layer: &dyn Fn(usize) -> Result<Sides>,
    options: Options,
    done: &dyn Fn(),
) -> Result<Alignment> {
    let work = Work {
        heads,
        layer,
        measures: measures(layers, layer, done)?,
        done,
    };
    let (mut turns, mut common) = work.start(layers, options.residual)?;
    let mut left: Vec<f64> = Vec::new();
    for _ in 0..options.rounds {
        let rest = work.round(&mut turns, &mut common)?;
        let before = left.last().copied().unwrap_or(f64::INFINITY);
        left.push(rest);
        if before - rest <= SMALL * rest {
            break;
        }
    }
    Ok(Alignment { turns, left })
}

/// By what value and output count, so that both together are 1: the inverse of twice their squared length in all layers.
fn measures(
    layers: usize,
    layer: &dyn Fn(usize) -> Result<Sides>,
    done: &dyn Fn(),
) -> Result<[f64; 2]> {
    let mut sums = [0.0; 2];
    for index in 0..layers {
        let sides = layer(index)?;
        let pairs = sums.iter_mut().zip(&sides);
        pairs.for_each(|(sum, side)| *sum += 2.0 * side.squared_norm());
        done();
    }
    Ok(sums.map(|sum| if sum > 0.0 { sum.recip() } else { 0.0 }))
}

/// An alignment under way.
struct Work<'a> {
    heads: Heads,
    layer: &'a dyn Fn(usize) -> Result<Sides>,
    measures: [f64; 2],
    done: &'a dyn Fn(),
}

impl Work<'_> {
    /// Each layer turned towards the sum of those before it; as atoms those sums.
    fn start(&self, layers: usize, residual: f64) -> Result<(Vec<Turn>, [Common; 2])> {
        let mut turns: Vec<Turn> = Vec::with_capacity(layers);
        let mut sums: Sides = [Matrix::zeros(0, 0), Matrix::zeros(0, 0)];
        for index in 0..layers {
            let sides = (self.layer)(index)?;
            let turn = if index == 0 {
                Turn::none(self.heads)
            } else {
                fit::fit(self.heads, &sides, &sums, self.measures)?
            };
            let turned = turn_both(&turn, &sides)?;
            if index == 0 {
                sums = turned;
            } else {
                let pairs = sums.iter_mut().zip(&turned);
                pairs.for_each(|(sum, side)| common::add(sum, 1.0, side));
            }
            turns.push(turn);
            (self.done)();
        }
        Ok((turns, sums.map(|sum| Common::new(sum, layers, residual))))
    }

    /// Turns each layer towards what atom and residual make of it, then fits these anew: the share that they leave.
    fn round(&self, turns: &mut [Turn], common: &mut [Common; 2]) -> Result<f64> {
        let mut left = 0.0;
        for (index, turn) in turns.iter_mut().enumerate() {
            let sides = (self.layer)(index)?;
            let [value, output] = turn_both(turn, &sides)?;
            let target = [
                common[0].part(index, &value)?.target,
                common[1].part(index, &output)?.target,
            ];
            *turn = fit::fit(self.heads, &sides, &target, self.measures)?;
            let turned = turn_both(turn, &sides)?;
            for ((common, measure), weight) in common.iter_mut().zip(self.measures).zip(&turned) {
                let Part {
                    residual,
                    left: rest,
                    ..
                } = common.part(index, weight)?;
                left += measure * rest;
                common.take(index, weight, &residual);
            }
            (self.done)();
        }
        common.iter_mut().for_each(Common::renew);
        Ok(left)
    }
}

/// Value and output under one turn.
fn turn_both(turn: &Turn, [value, output]: &Sides) -> Result<Sides> {
    Ok([turn.turned(value)?, turn.turned(output)?])
}
