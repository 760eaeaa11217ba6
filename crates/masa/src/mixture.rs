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

use compress_core::{Dictionary, Edit, Factor, Matrix, Result, Shape, Store, Survey, Symmetric};
use compress_numerics::linalg::Cholesky;
use compress_svd::{Metric, Truncated, truncate_in};

use crate::{Masa, step::Mixture};

/// Added to the diagonal of A, relative to its mean: atoms that are zero, or alike in this norm, get finite coefficients.
const DAMPING: f64 = 1e-10;

/// Carries out one step in the metric of its weight.
pub fn mix(step: Mixture, survey: &Survey<'_>, method: &Masa, metric: &Metric) -> Result<Edit> {
    let site = step.site;
    let weight = survey.weight(site)?;
    let factor = match step.dictionary() {
        None => Factor::LowRank(truncate_in(metric, &weight, step.residual)?.pair()),
        Some(form) => {
            let dictionary = survey.dictionary(form.group)?;
            let coefficients = fit(&weight, &dictionary, method.fit.metric(metric))?;
            let rest = rest(&weight, &dictionary, &coefficients)?;
            let cut = (step.residual > 0).then(|| truncate_in(metric, &rest, step.residual));
            Factor::Shared {
                residual: cut.transpose()?.map(Truncated::pair),
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
pub fn fit(weight: &Matrix, dictionary: &Dictionary, metric: &Metric) -> Result<Matrix> {
    let count = dictionary.atoms;
    let Shape { rows, cols } = dictionary.shape();
    let stacked = dictionary.stacked.floats();
    let atoms: Vec<&[f32]> = stacked.data().chunks_exact(rows * cols).collect();
    let mut products = Symmetric::zeros(count);
    let mut sides = Vec::with_capacity(count);
    for (atom, row) in atoms.iter().zip(products.rows_mut()) {
        let atom = Matrix::new(rows, cols, atom.to_vec())?;
        // G D H, of one atom at a time.
        let weighted = metric.weighted(&atom)?.row_major();
        let product = |other: &[f32]| -> f64 {
            let pairs = weighted.iter().zip(other);
            pairs.map(|(x, y)| x * f64::from(*y)).sum()
        };
        let pairs = row.iter_mut().zip(&atoms);
        pairs.for_each(|(place, other)| *place = product(other));
        sides.push(product(weight.data()));
    }
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
