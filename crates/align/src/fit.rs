//! The turn that brings a block's heads nearest to a target.
//!
//! ```text
//! M_gh = Σ target[g] · head[h]ᵀ      over value and output, each in its measure
//! R_gh = polar(M_gh)                 the best turn of head h at place g, worth tr(R_ghᵀ M_gh)
//! p    = argmax Σ_g worth(g, p_g)    which head goes where, by assignment
//! ```
//!
//! ‖R W − P‖² = ‖W‖² + ‖P‖² − 2 tr(Rᵀ P Wᵀ), so that the nearest turn is the one of largest trace.

use compress_core::{Matrix, Result};
use compress_numerics::linalg::{Double, polar, product};
use rayon::prelude::*;

use crate::{
    Sides,
    assignment::assign,
    heads::{Heads, Turn},
};

/// The nearest turn of a block's value and output to a target. `measures` say how much each counts.
pub fn fit(heads: Heads, block: &Sides, target: &Sides, measures: [f64; 2]) -> Result<Turn> {
    let count = heads.key_value;
    let products = [0, 1].map(|side| product(&target[side], &block[side].transposed()));
    let [value, output] = products;
    let products = [value?, output?];
    let pair = |index: usize| {
        let (to, from) = (index / count, index % count);
        let traces = |i, j| {
            let sides = products.iter().zip(measures);
            sides
                .map(|(product, measure)| measure * block_sum(heads, product, (to, from), (i, j)))
                .sum()
        };
        Ok(polar(&Double::from_fn(heads.size, heads.size, traces))?)
    };
    // Each pair is one thread's.
    let pairs = (0..count * count).into_par_iter().map(pair);
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    let worth: Vec<Vec<f64>> = pairs
        .chunks(count)
        .map(|row| row.iter().map(|(_, worth)| *worth).collect())
        .collect();
    let from = assign(&worth);
    let turns = from.iter().enumerate();
    let turns = turns.filter_map(|(to, from)| pairs.get(to * count + from));
    let turns = turns.map(|(turn, _)| turn.clone()).collect();
    Ok(Turn::new(heads, from, turns))
}

/// Element (i, j) of the product of a target head with a block's head, summed over the query heads that share them.
fn block_sum(
    heads: Heads,
    product: &Matrix,
    (to, from): (usize, usize),
    (i, j): (usize, usize),
) -> f64 {
    let each = product.rows() / heads.key_value;
    let at = |query: usize| {
        let (row, column) = (to * each + query + i, from * each + query + j);
        f64::from(product.data()[row * product.cols() + column])
    };
    (0..each).step_by(heads.size).map(at).sum()
}
