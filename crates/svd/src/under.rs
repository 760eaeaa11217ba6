//! The cut of one weight under a metric; formulas at [`metric`](crate::Metric).
//!
//! Published code takes the Cholesky factor of H and its inverse, which fails for singular H. Here neither is inverted:
//! with U from M H Mᵀ and B = Uᵀ M the same optimum is (W H Bᵀ Λ⁻¹) B, and only kept eigenvalues are divided by. One symmetric
//! eigendecomposition of the shorter side, and two products with a metric, in `f64`.

use compress_core::{Matrix, Result};
use compress_numerics::linalg::Double;

use crate::{Metric, Truncated, Weighting};

/// Cuts an m × n weight to rank `rank` with the least error in the given norm.
///
/// Fails outside 1..=min(m, n), where the sizes of the metric are not those of the weight, and where the decomposition
/// does not converge.
pub fn truncate_under(metric: &Metric, weight: &Matrix, rank: usize) -> Result<Truncated> {
    let sides = Sides::new(metric, weight);
    let rooted = sides.rooted()?;
    let gram = sides.inputs.gram(&rooted)?;
    // Without a root M is W: soon made again, and not held beside an eigendecomposition of several times its size.
    let rooted = (!sides.outputs.is_even()).then_some(rooted);
    let (values, vectors) = gram.top_eigenvectors(rank)?;
    // Eigenvalues of a Gram matrix; below 0 they are rounding.
    let values: Vec<f64> = values.into_iter().map(|x| x.max(0.0)).collect();
    let all: f64 = values.iter().sum();
    let kept: f64 = values.iter().take(rank).sum();
    let (up, down) = balanced(sides.factors(&values, vectors, rooted)?);
    let (up, down) = if sides.on_its_side {
        (down.transposed(), up.transposed())
    } else {
        (up, down)
    };
    Ok(Truncated {
        up: up.to_matrix(),
        down: down.to_matrix(),
        error: if all > 0.0 {
            (all - kept).max(0.0) / all
        } else {
            0.0
        },
    })
}

/// The spectrum of a weight in the given norm: the eigenvalues λ of M H Mᵀ, largest first, min(m, n) of them. Cutting
/// to rank r costs the sum of those after the first r.
pub fn spectrum_under(metric: &Metric, weight: &Matrix) -> Result<Vec<f64>> {
    let sides = Sides::new(metric, weight);
    let values = sides.inputs.gram(&sides.rooted()?)?.eigenvalues()?;
    Ok(values.into_iter().map(|x| x.max(0.0)).collect())
}

/// A weight and its metric, the shorter side first: m ≤ n.
struct Sides<'a> {
    weight: &'a Matrix,
    outputs: &'a Weighting, // G = L Lᵀ: m × m
    inputs: &'a Weighting,  // H: n × n
    on_its_side: bool,
}

impl<'a> Sides<'a> {
    fn new(metric: &'a Metric, weight: &'a Matrix) -> Self {
        let on_its_side = weight.rows() > weight.cols();
        // ‖G^½ W H^½‖ = ‖H^½ Wᵀ G^½‖: on its side, G and H change places.
        let (outputs, inputs) = if on_its_side {
            (&metric.inputs, &metric.outputs)
        } else {
            (&metric.outputs, &metric.inputs)
        };
        Self {
            weight,
            outputs,
            inputs,
            on_its_side,
        }
    }

    /// M = Lᵀ W, m × n.
    fn rooted(&self) -> Result<Double> {
        self.outputs.root_applied(wide(self.weight))
    }

    /// A = W H Bᵀ Λ⁻¹, m × r, and B = Uᵀ M, r × n, from the eigenvalues and the top eigenvectors U. M is made here
    /// where it was not kept.
    fn factors(
        &self,
        values: &[f64],
        u: Double,
        rooted: Option<Double>,
    ) -> Result<(Double, Double)> {
        let down = u.transposed_times(&rooted.map_or_else(|| self.rooted(), Ok)?)?;
        if self.outputs.is_even() {
            // With L = I, A is U: M = W, and W H Wᵀ U = U Λ.
            return Ok((u, down));
        }
        // Eigenvalues below the rounding of the largest are noise, which a division would blow up.
        let noise = f64::EPSILON * u.rows() as f64 * values.first().copied().unwrap_or_default();
        let inverse = |x: &f64| if *x > noise { x.recip() } else { 0.0 };
        let inverses: Vec<f64> = values.iter().map(inverse).collect();
        // From the right, so that no product is larger than r × n.
        let weighted = (!self.inputs.is_even()).then(|| self.inputs.applied(&down));
        let weighted = weighted.transpose()?;
        let up = wide(self.weight).times_transposed(weighted.as_ref().unwrap_or(&down))?;
        Ok((up.scaled_columns(&inverses), down))
    }
}

/// A weight in `f64`, transposed where it has more rows than columns.
fn wide(weight: &Matrix) -> Double {
    let (rows, cols) = (weight.rows(), weight.cols());
    if rows <= cols {
        return Double::from(weight);
    }
    Double::from_fn(cols, rows, |i, j| f64::from(weight.data()[j * cols + i]))
}

/// Scales each component to the same length in both factors, so that their entries are of like size, which suits
/// half-precision formats and training.
fn balanced((up, down): (Double, Double)) -> (Double, Double) {
    let left = up.column_norms();
    let right = down.row_norms();
    let scale = |(l, r): (&f64, &f64)| {
        let scale = (r / l).sqrt();
        // A component of length 0 on either side stays as it is.
        if scale.is_finite() && scale > 0.0 {
            scale
        } else {
            1.0
        }
    };
    let scales: Vec<f64> = left.iter().zip(&right).map(scale).collect();
    let inverses: Vec<f64> = scales.iter().map(|x| x.recip()).collect();
    (up.scaled_columns(&scales), down.scaled_rows(&inverses))
}
