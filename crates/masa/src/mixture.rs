//! A weight as a mixture of atoms that are there already, and a low-rank residual.
//!
//! ```text
//! c = argmin ‖W − Σ_s c_s D_s‖        A c = b,  A_st = ⟨D_s, D_t⟩,  b_s = ⟨D_s, W⟩
//! up · down = argmin ‖W − Σ_s c_s D_s − up · down‖   of rank r
//! ```
//!
//! Both in the same norm, ⟨X, Y⟩ = tr(Xᵀ G Y H). The paper projects, which is this in the plain norm; what the activations
//! or the loss care for is then not what is fitted. Atoms are taken as they are stored, so that rounding them is made
//! good for.

use std::sync::Arc;

use compress_core::{
    Dictionary, Edit, Error, Factor, Matrix, Pair, Result, Shape, Store, Survey, Symmetric,
};
use compress_numerics::linalg::Cholesky;
use compress_svd::{Metric, truncate_in};

use crate::{Masa, step::Mixture};

/// Added to the diagonal of A, relative to its mean: atoms that are zero, or alike in this norm, get finite coefficients.
const DAMPING: f64 = 1e-10;

/// Carries out one step in the metric of its weight.
pub fn mix(step: Mixture, survey: &Survey<'_>, method: &Masa, metric: &Metric) -> Result<Edit> {
    let site = step.site;
    let weight = survey.weight(site)?;
    let factor = match step.dictionary() {
        None => truncate_in(metric, &weight, step.residual)?.factor,
        Some(form) => {
            let dictionary = survey.dictionary(form.group)?;
            let coefficients = fit(&weight, &dictionary, method.fit.metric(metric))?;
            let rest = rest(&weight, &dictionary, &coefficients)?;
            let pair = |rank| residual(&rest, metric, rank);
            Factor::Shared {
                residual: (step.residual > 0)
                    .then(|| pair(step.residual))
                    .transpose()?,
                dictionary,
                coefficients: Store::Float(coefficients),
            }
        }
    };
    let factor = survey.stored(&factor)?.unwrap_or(factor);
    let error = metric.relative_error(&weight, &factor.dense()?)?;
    Ok(Edit {
        site,
        factor,
        error,
    })
}

/// The coefficients of a weight, 1 × S, with the least error in a norm.
pub fn fit(weight: &Matrix, dictionary: &Arc<Dictionary>, metric: &Metric) -> Result<Matrix> {
    let count = dictionary.atoms;
    let Shape { rows, cols } = dictionary.shape();
    let stacked = dictionary.stacked.floats();
    let atoms: Vec<&[f32]> = stacked.data().chunks_exact(rows * cols).collect();
    let mut products = Vec::with_capacity(count * (count + 1) / 2);
    let mut sides = Vec::with_capacity(count);
    for (s, atom) in atoms.iter().enumerate() {
        let atom = Matrix::new(rows, cols, atom.to_vec())?;
        // G D H, of one atom at a time.
        let weighted = metric.weighted(&atom)?.row_major();
        let product = |other: &[f32]| -> f64 {
            let pairs = weighted.iter().zip(other);
            pairs.map(|(x, y)| x * f64::from(*y)).sum()
        };
        products.extend(atoms.iter().take(s + 1).map(|other| product(other)));
        sides.push(product(weight.data()));
    }
    let products = Symmetric::from_lower(count, products).ok_or(Error::NothingShared {
        method: "a dictionary without atoms",
    })?;
    let mean = products.trace() / count as f64;
    // Nothing that the norm sees: then no coefficient changes anything.
    if mean <= 0.0 {
        return Ok(Matrix::zeros(1, count));
    }
    Cholesky::new(products.plus_diagonal(DAMPING * mean))?.solve(&mut sides);
    let coefficients = sides.iter().map(|x| *x as f32).collect();
    Ok(Matrix::new(1, count, coefficients)?)
}

/// W − Σₛ cₛ Dₛ.
pub fn rest(weight: &Matrix, dictionary: &Dictionary, coefficients: &Matrix) -> Result<Matrix> {
    let mut rest = dictionary.mixed(coefficients)?;
    let pairs = rest.data_mut().iter_mut().zip(weight.data());
    pairs.for_each(|(mixed, w)| *mixed = w - *mixed);
    Ok(rest)
}

/// The pair of a rank that is closest to what atoms leave.
fn residual(rest: &Matrix, metric: &Metric, rank: usize) -> Result<Pair> {
    match truncate_in(metric, rest, rank)?.factor {
        Factor::LowRank(pair) => Ok(pair),
        other => Ok(Pair::new(other.dense()?, Matrix::zeros(0, 0))),
    }
}
