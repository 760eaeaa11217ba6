//! Truncation in a norm that data gives: the error of the outputs, or of the loss, in place of that
//! of the weights.
//!
//! ```text
//! minimise ‖G^½ (W − Ŵ) H^½‖²  over Ŵ of rank r
//!
//! G = L Lᵀ   m × m   the metric of the outputs
//! M = Lᵀ W   U Λ Uᵀ = M H Mᵀ   (m × m; U: its r top eigenvectors)
//! Ŵ = A · B   B = Uᵀ M  (r × n)   A = W H Mᵀ U Λ⁻¹  (m × r),  which is L⁻ᵀ U without an inverse
//! error = Σ_{i>r} λᵢ
//! ```
//!
//! Neither G nor H is inverted, so both may be singular; only kept eigenvalues are divided by. A
//! matrix with more rows than columns is treated on its side, with G and H changing places, so that
//! the eigenproblem is always that of the shorter side. All in `f64`: the spectra of H and G fall
//! over many orders of magnitude.

use compress_core::{Factor, Matrix, Result, Symmetric, linalg::Double};

use crate::Truncated;

/// Added to the diagonal of measured metrics, as a fraction of its mean, so that directions that the
/// calibration text never used still count for a little.
const DAMPING: f64 = 1e-8;

/// How much errors in each direction of one side of a weight matter.
#[derive(Clone, Debug)]
pub enum Weighting {
    /// All alike.
    Even,
    /// Each coordinate by a number of its own, at least 0.
    Diagonal(Vec<f64>),
    /// By a positive semidefinite matrix.
    Full(Symmetric),
}

/// The norm ‖G^½ · H^½‖ in which the error of a weight is measured.
#[derive(Clone, Debug)]
pub struct Metric {
    /// G: m outputs.
    pub outputs: Weighting,
    /// H: n inputs.
    pub inputs: Weighting,
}

impl Metric {
    /// The error of the weights themselves.
    pub const PLAIN: Self = Self {
        outputs: Weighting::Even,
        inputs: Weighting::Even,
    };

    /// Whether it is the error of the weights themselves.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(
            self,
            Self {
                outputs: Weighting::Even,
                inputs: Weighting::Even
            }
        )
    }

    /// The error of the outputs W x over the data, from H = Σ x xᵀ.
    #[must_use]
    pub fn activation(h: Symmetric) -> Self {
        Self {
            outputs: Weighting::Even,
            inputs: Weighting::damped(h),
        }
    }

    /// Σ over samples of the change of the loss, from H = Σ x xᵀ and G = Σ g gᵀ: the Fisher
    /// information of the weight taken as the Kronecker product of the two.
    #[must_use]
    pub fn kronecker(g: Symmetric, h: Symmetric) -> Self {
        Self {
            outputs: Weighting::damped(g),
            inputs: Weighting::damped(h),
        }
    }

    /// Each input by its Fisher information.
    #[must_use]
    pub fn input_fisher(mut fisher: Vec<f64>) -> Self {
        let floor = DAMPING * fisher.iter().sum::<f64>() / fisher.len().max(1) as f64;
        fisher.iter_mut().for_each(|x| *x += floor);
        Self {
            outputs: Weighting::Even,
            inputs: Weighting::Diagonal(fisher),
        }
    }
}

impl Metric {
    /// ‖G^½ M H^½‖² of an m × n matrix: the sum of M ∘ (G M H).
    pub fn squared_norm(&self, m: &Matrix) -> Result<f64> {
        if self.is_plain() {
            return Ok(m.squared_norm());
        }
        let m = Double::from(m);
        let weighted = self.inputs.applied(&m)?;
        let weighted = self.outputs.applied(&weighted.transposed())?.transposed();
        let dot = |j: usize| -> f64 {
            let pairs = m.column(j).iter().zip(weighted.column(j));
            pairs.map(|(a, b)| a * b).sum()
        };
        Ok((0..m.cols()).map(dot).sum::<f64>().max(0.0))
    }
}

impl Weighting {
    fn damped(h: Symmetric) -> Self {
        let mean = h.trace() / h.size().max(1) as f64;
        Self::Full(h.plus_diagonal(DAMPING * mean))
    }

    /// `x · H` for the rows of x.
    fn applied(&self, x: &Double) -> Result<Double> {
        match self {
            Self::Even => Ok(x.clone()),
            Self::Diagonal(numbers) => Ok(x.clone().scaled_columns(numbers)),
            Self::Full(h) => x.times(&Double::from(h)),
        }
    }

    /// `Lᵀ · x` with L Lᵀ = G.
    fn root_applied(&self, x: &Double) -> Result<Double> {
        match self {
            Self::Even => Ok(x.clone()),
            Self::Diagonal(numbers) => Ok(x.clone().scaled_rows(&roots(numbers))),
            Self::Full(g) => {
                let (values, vectors) = Double::from(g).top_eigenvectors(g.size())?;
                Ok(vectors.transposed_times(x)?.scaled_rows(&roots(&values)))
            }
        }
    }
}

/// Cuts an m × n weight to rank `rank` with the least error in the given norm; an error outside
/// 1..=min(m, n).
pub fn truncate_under(metric: &Metric, weight: &Matrix, rank: usize) -> Result<Truncated> {
    let (eigen, sides) = decompose(metric, weight, rank)?;
    let all: f64 = eigen.values.iter().sum();
    let kept: f64 = eigen.values.iter().take(rank).sum();
    let (up, down) = factors(&eigen, &sides)?;
    let (up, down) = if sides.on_its_side {
        (down.transposed(), up.transposed())
    } else {
        (up, down)
    };
    let (up, down) = balanced(up, down);
    Ok(Truncated {
        factor: Factor::LowRank {
            up: up.to_matrix(),
            down: down.to_matrix(),
        },
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
    let sides = Sides::new(metric, weight)?;
    let values = sides.gram()?.eigenvalues()?;
    Ok(values.into_iter().map(|x| x.max(0.0)).collect())
}

/// The weight with its shorter side first.
struct Sides {
    weight: Double,   // m × n, m ≤ n
    rooted: Double,   // M = Lᵀ W
    weighted: Double, // M H
    even: bool,       // L = I
    on_its_side: bool,
}

struct Eigen {
    values: Vec<f64>, // all m, largest first, none negative
    vectors: Double,  // U: m × r
}

impl Sides {
    fn new(metric: &Metric, weight: &Matrix) -> Result<Self> {
        let on_its_side = weight.rows() > weight.cols();
        let weight = Double::from(weight);
        let (weight, outputs, inputs) = if on_its_side {
            (weight.transposed(), &metric.inputs, &metric.outputs)
        } else {
            (weight, &metric.outputs, &metric.inputs)
        };
        let rooted = outputs.root_applied(&weight)?;
        let weighted = inputs.applied(&rooted)?;
        let even = matches!(outputs, Weighting::Even);
        Ok(Self {
            weight,
            rooted,
            weighted,
            even,
            on_its_side,
        })
    }

    /// M H Mᵀ
    fn gram(&self) -> Result<Double> {
        self.weighted.times_transposed(&self.rooted)
    }
}

fn decompose(metric: &Metric, weight: &Matrix, rank: usize) -> Result<(Eigen, Sides)> {
    let sides = Sides::new(metric, weight)?;
    let (values, vectors) = sides.gram()?.top_eigenvectors(rank)?;
    let values = values.into_iter().map(|x| x.max(0.0)).collect();
    Ok((Eigen { values, vectors }, sides))
}

fn factors(eigen: &Eigen, sides: &Sides) -> Result<(Double, Double)> {
    let u = &eigen.vectors;
    let down = u.transposed_times(&sides.rooted)?;
    if sides.even {
        return Ok((u.clone(), down));
    }
    // W (H Mᵀ U) Λ⁻¹
    // What is below the rounding of the largest says nothing, and would be divided by.
    let noise = f64::EPSILON * u.rows() as f64 * eigen.values.first().copied().unwrap_or_default();
    let inverse = |x: &f64| if *x > noise { x.recip() } else { 0.0 };
    let inverses: Vec<f64> = eigen.values.iter().map(inverse).collect();
    let inward = sides.weighted.transposed_times(u)?;
    Ok((sides.weight.times(&inward)?.scaled_columns(&inverses), down))
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

fn roots(squares: &[f64]) -> Vec<f64> {
    squares.iter().map(|x| x.max(0.0).sqrt()).collect()
}
