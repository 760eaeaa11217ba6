//! Atoms that are fitted beside low-rank residuals, in turns.
//!
//! ```text
//! minimise  Σ_l ‖W_l − Σ_s c_ls D_s − R_l‖²      rank R_l ≤ r
//! R_l = truncate(W_l − Σ c D)      c_l: least squares on W_l − R_l      D = N C⁻¹, N = Σ_l (W_l − R_l) c_lᵀ, C = Σ_l c_l c_lᵀ
//! ```
//!
//! Principal components spend atoms on what residuals would have anyway. Begins with them; no step makes the error larger.
//! Residuals are made when they are needed, so that memory holds a few weights, and the atoms twice.

use compress_core::{Dictionary, Matrix, Result, Site, Store, Survey, Symmetric};
use compress_numerics::linalg::Cholesky;
use compress_svd::{Metric, truncate};

use crate::mixture::{DAMPING, fit, rest};

/// Rounds at most.
const ROUNDS: usize = 30;

/// A gain in a round, as a share of what is left, that is worth no further one.
const SMALL: f64 = 1e-3;

/// Fits atoms to the weights of some sites beside residuals of a rank.
pub fn beside_residuals(
    mut atoms: Dictionary,
    sites: &[Site],
    rank: usize,
    survey: &Survey<'_>,
) -> Result<Dictionary> {
    let mut coefficients: Vec<Option<Matrix>> = vec![None; sites.len()];
    let mut before = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (next, left) = round(&atoms, sites, rank, &mut coefficients, survey)?;
        atoms = next;
        if before - left <= SMALL * left {
            break;
        }
        before = left;
    }
    Ok(atoms)
}

/// One round: the next atoms, and what the old ones left.
fn round(
    atoms: &Dictionary,
    sites: &[Site],
    rank: usize,
    coefficients: &mut [Option<Matrix>],
    survey: &Survey<'_>,
) -> Result<(Dictionary, f64)> {
    let (count, size) = (atoms.atoms, atoms.shape().size());
    let (mut sums, mut squares) = (vec![0.0_f32; count * size], Symmetric::zeros(count));
    let mut left = 0.0;
    for (site, known) in sites.iter().zip(coefficients) {
        let weight = survey.weight(*site)?;
        let old = match known.take() {
            Some(known) => known,
            None => fit(&weight, atoms, &Metric::PLAIN)?,
        };
        let rest = rest(&weight, atoms, &old)?;
        let residual = truncate(&rest, rank)?.dense()?;
        left += rest.squared_distance(&residual);
        let mut shared = weight;
        let pairs = shared.data_mut().iter_mut().zip(residual.data());
        pairs.for_each(|(w, r)| *w -= r);
        let new = fit(&shared, atoms, &Metric::PLAIN)?;
        for (sum, share) in sums.chunks_mut(size).zip(new.data()) {
            let pairs = sum.iter_mut().zip(shared.data());
            pairs.for_each(|(sum, w)| *sum += share * w);
        }
        for (row, a) in squares.rows_mut().zip(new.data()) {
            let pairs = row.iter_mut().zip(new.data());
            pairs.for_each(|(sum, b)| *sum += f64::from(*a) * f64::from(*b));
        }
        *known = Some(new);
    }
    Ok((solved(atoms, &sums, squares)?, left))
}

/// D = N C⁻¹; the old atoms where no weight has a part of them.
fn solved(old: &Dictionary, sums: &[f32], squares: Symmetric) -> Result<Dictionary> {
    let (count, size) = (old.atoms, old.shape().size());
    let mean = squares.trace() / count as f64;
    if mean <= 0.0 {
        return Ok(old.clone());
    }
    let squares = Cholesky::new(squares.plus_diagonal(DAMPING * mean))?;
    let mut stacked = Vec::with_capacity(count * size);
    for atom in 0..count {
        // A row of C⁻¹.
        let mut shares: Vec<f64> = (0..count).map(|s| f64::from(u8::from(s == atom))).collect();
        squares.solve(&mut shares);
        let mut new = vec![0.0_f32; size];
        for (share, sum) in shares.iter().zip(sums.chunks(size)) {
            let pairs = new.iter_mut().zip(sum);
            pairs.for_each(|(x, n)| *x += *share as f32 * n);
        }
        stacked.extend(new);
    }
    let cols = old.shape().cols;
    Ok(Dictionary {
        stacked: Store::Float(Matrix::new(count * size / cols, cols, stacked)?),
        ..old.clone()
    })
}
