//! The cut of one weight under a metric: see [`metric`](crate::Metric) for the formulas.

use compress_core::{Factor, Matrix, Result};
use compress_numerics::linalg::Double;

use crate::{Metric, Truncated};

/// Cuts an m × n weight to rank `rank` with the least error in the given norm; an error outside
/// 1..=min(m, n).
pub fn truncate_under(metric: &Metric, weight: &Matrix, rank: usize) -> Result<Truncated> {
    let sides = Sides::new(metric, weight)?;
    let (values, vectors) = sides.gram()?.top_eigenvectors(rank)?;
    let values: Vec<f64> = values.into_iter().map(|x| x.max(0.0)).collect();
    let all: f64 = values.iter().sum();
    let kept: f64 = values.iter().take(rank).sum();
    let on_its_side = sides.on_its_side;
    let (up, down) = factors(&values, vectors, sides, weight)?;
    let (up, down) = if on_its_side {
        (down.transposed(), up.transposed())
    } else {
        (up, down)
    };
    let (up, down) = balanced(up, down);
    Ok(Truncated {
        factor: Factor::low_rank(up.to_matrix(), down.to_matrix()),
        error: if all > 0.0 {
            (all - kept).max(0.0) / all
        } else {
            0.0
        },
    })
}

/// What each rank is worth in the given norm: the eigenvalues λ, largest first, min(m, n) of them.
/// Cutting to rank r costs the sum of those after the first r.
pub fn spectrum_under(metric: &Metric, weight: &Matrix) -> Result<Vec<f64>> {
    let gram = Sides::new(metric, weight)?.gram()?;
    let values = gram.eigenvalues()?;
    Ok(values.into_iter().map(|x| x.max(0.0)).collect())
}

/// What a weight with its shorter side first becomes under a metric; m ≤ n.
struct Sides {
    rooted: Double,           // M = Lᵀ W: m × n
    weighted: Option<Double>, // M H: m × n; none where H = I
    even: bool,               // L = I
    on_its_side: bool,
}

impl Sides {
    fn new(metric: &Metric, weight: &Matrix) -> Result<Self> {
        let on_its_side = weight.rows() > weight.cols();
        let (outputs, inputs) = if on_its_side {
            (&metric.inputs, &metric.outputs)
        } else {
            (&metric.outputs, &metric.inputs)
        };
        let rooted = outputs.root_applied(wide(weight))?;
        let weighted = (!inputs.is_even()).then(|| inputs.applied(&rooted));
        Ok(Self {
            weighted: weighted.transpose()?,
            rooted,
            even: outputs.is_even(),
            on_its_side,
        })
    }

    fn weighted(&self) -> &Double {
        self.weighted.as_ref().unwrap_or(&self.rooted)
    }

    /// M H Mᵀ, its lower triangle.
    fn gram(&self) -> Result<Double> {
        Ok(self.weighted().symmetric_product(&self.rooted)?)
    }
}

/// A weight with its shorter side first.
fn wide(weight: &Matrix) -> Double {
    let (rows, cols) = (weight.rows(), weight.cols());
    if rows <= cols {
        return Double::from(weight);
    }
    Double::from_fn(cols, rows, |i, j| f64::from(weight.data()[j * cols + i]))
}

/// A and B from the eigenvalues and the top eigenvectors U.
fn factors(values: &[f64], u: Double, sides: Sides, weight: &Matrix) -> Result<(Double, Double)> {
    let down = u.transposed_times(&sides.rooted)?;
    if sides.even {
        return Ok((u, down));
    }
    // W (H Mᵀ U) Λ⁻¹
    // What is below the rounding of the largest says nothing, and would be divided by.
    let noise = f64::EPSILON * u.rows() as f64 * values.first().copied().unwrap_or_default();
    let inverse = |x: &f64| if *x > noise { x.recip() } else { 0.0 };
    let inverses: Vec<f64> = values.iter().map(inverse).collect();
    let inward = sides.weighted().transposed_times(&u)?;
    drop(sides); // before the weight is there in f64 once more
    Ok((wide(weight).times(&inward)?.scaled_columns(&inverses), down))
}

/// Gives each component the same length in both factors, so that their entries are of like size,
/// which suits half-precision formats and training.
fn balanced(up: Double, down: Double) -> (Double, Double) {
    let left = up.column_norms();
    let right = down.transposed().column_norms();
    let scale = |(l, r): (&f64, &f64)| {
        let scale = (r / l).sqrt();
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
