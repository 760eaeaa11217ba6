//! Metrics: norms ‖G^½ (W − Ŵ) H^½‖ in which the error is that of the outputs, or of the loss, in place of that
//! of the weights; and the truncation under them.
//!
//! ```text
//! minimise ‖G^½ (W − Ŵ) H^½‖²  over Ŵ of rank r
//!
//! G = L Lᵀ   m × m   the metric of the outputs
//! M = Lᵀ W   U Λ Uᵀ = M H Mᵀ   (m × m; U: its r top eigenvectors)
//! Ŵ = A · B   B = Uᵀ M  (r × n)   A = W H Bᵀ Λ⁻¹  (m × r),  which is L⁻ᵀ U without an inverse
//! error = Σ_{i>r} λᵢ
//! ```
//!
//! Neither G nor H is inverted, so both may be singular; only kept eigenvalues are divided by. A
//! matrix with more rows than columns is treated on its side, with G and H changing places, so that
//! the eigenproblem is always that of the shorter side. All is in `f64`: the spectra of H and G fall
//! over many orders of magnitude.

use std::sync::Arc;

use compress_core::{Matrix, Result, Symmetric};
use compress_numerics::linalg::Double;
use rayon::prelude::*;

use crate::root::Root;

/// Damping of measured metrics, as a fraction of the mean of the diagonal, so that directions that the calibration text
/// never used still count for a little. Far less than GPTQ's: nothing is inverted here.
const DAMPING: f64 = 1e-8;

/// Rows whose norm is computed together, so that no whole copy in `f64` is made.
const BAND: usize = 256;

/// Columns of a product with a metric that are there at a time while a Gram matrix is summed.
pub(crate) const PART: usize = 2048;

/// The weighting of errors on one side of a weight, inputs or outputs.
#[derive(Clone, Debug)]
pub enum Weighting {
    /// The identity.
    Even,
    /// A diagonal matrix: each coordinate by a number of its own, at least 0.
    Diagonal(Vec<f64>),
    /// A positive semidefinite matrix, shared by all weights of a layer input.
    Full(Arc<Full>),
}

/// A positive semidefinite n × n matrix, and its root where that was computed beforehand.
#[derive(Debug)]
pub struct Full {
    matrix: Symmetric,
    root: Option<Root>,
}

/// The norm ‖G^½ · H^½‖ in which the error of a weight is measured.
#[derive(Clone, Debug)]
pub struct Metric {
    /// G: m × m, of the outputs.
    pub outputs: Weighting,
    /// H: n × n, of the inputs.
    pub inputs: Weighting,
}

impl Metric {
    /// The Frobenius norm: the error of the weights themselves.
    pub const PLAIN: Self = Self {
        outputs: Weighting::Even,
        inputs: Weighting::Even,
    };

    /// Whether it is the Frobenius norm, for which there is a faster cut in `f32`.
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

    /// The activation metric, the squared error of the outputs W x over a text, from H = Σ x xᵀ, n × n.
    #[must_use]
    pub fn activation(h: Symmetric) -> Self {
        Self {
            outputs: Weighting::Even,
            inputs: Weighting::damped(h),
        }
    }

    /// The Kronecker metric, an estimate of the change of the loss, from G = Σ g gᵀ and H = Σ x xᵀ: the Fisher
    /// information of the weight is taken for G ⊗ H (K-FAC, Martens & Grosse 2015).
    #[must_use]
    pub fn kronecker(g: Symmetric, h: Symmetric) -> Self {
        Self {
            outputs: Weighting::damped(g),
            inputs: Weighting::damped(h),
        }
    }

    /// The metric of FWSVD's paper: each input weighted by its Fisher information, n numbers.
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
    /// G M H of an m × n matrix: its inner product with another matrix is that of the two in this norm.
    pub fn weighted(&self, m: &Matrix) -> Result<Double> {
        let weighted = self.inputs.applied(&Double::from(m))?;
        if self.outputs.is_even() {
            return Ok(weighted);
        }
        Ok(self.outputs.applied(&weighted.transposed())?.transposed())
    }

    /// ‖G^½ M H^½‖² of an m × n matrix: the sum of the elements of M ∘ (G M H), which needs no root. Costs a product
    /// with each metric; fails where the sizes differ.
    pub fn squared_norm(&self, m: &Matrix) -> Result<f64> {
        if self.is_plain() {
            return Ok(m.squared_norm());
        }
        if self.outputs.is_even() {
            return self.squared_norm_by_inputs(m);
        }
        Ok(dot(&Double::from(m), &self.weighted(m)?))
    }

    /// The same with G = I, a band of rows at a time in `f64`.
    fn squared_norm_by_inputs(&self, m: &Matrix) -> Result<f64> {
        let cols = m.cols();
        let bands = m.data().par_chunks(BAND * cols.max(1));
        let norm = |numbers: &[f32]| {
            let band = Matrix::new(numbers.len() / cols, cols, numbers.to_vec())?;
            let band = Double::from(&band);
            Ok(dot(&band, &self.inputs.applied(&band)?))
        };
        let norms = bands.with_max_len(1).map(norm);
        Ok(norms.collect::<Result<Vec<f64>>>()?.iter().sum())
    }

    /// ‖W − Ŵ‖² / ‖W‖² in this norm, of two matrices of one shape; 0 where W is 0.
    pub fn relative_error(&self, weight: &Matrix, other: &Matrix) -> Result<f64> {
        let mut lost = weight.clone();
        let pairs = lost.data_mut().iter_mut().zip(other.data());
        pairs.for_each(|(x, y)| *x -= y);
        let whole = self.squared_norm(weight)?;
        let lost = self.squared_norm(&lost)?;
        Ok(if whole > 0.0 { lost / whole } else { 0.0 })
    }
}

/// The sum of elementwise products. A squared norm is not negative, so neither is the result, whatever rounding does.
fn dot(a: &Double, b: &Double) -> f64 {
    let column = |j: usize| -> f64 {
        let pairs = a.column(j).iter().zip(b.column(j));
        pairs.map(|(a, b)| a * b).sum()
    };
    (0..a.cols()).map(column).sum::<f64>().max(0.0)
}

impl Weighting {
    /// From a sum over data, with [`DAMPING`] of its mean diagonal added.
    pub(crate) fn damped(h: Symmetric) -> Self {
        let mean = h.trace() / h.size().max(1) as f64;
        let matrix = h.plus_diagonal(DAMPING * mean);
        Self::Full(Arc::new(Full { matrix, root: None }))
    }

    /// The same with its root computed once, for weights that share it: n³ / 3 operations. Fails where none is found.
    pub fn rooted(self) -> Result<Self> {
        match self {
            Self::Full(full) if full.root.is_none() => {
                // In place where nobody else holds it: H may take gigabytes.
                let matrix = match Arc::try_unwrap(full) {
                    Ok(full) => full.matrix,
                    Err(shared) => shared.matrix.clone(),
                };
                let root = Some(Root::of(&matrix)?);
                Ok(Self::Full(Arc::new(Full { matrix, root })))
            }
            other => Ok(other),
        }
    }

    /// Whether it is the identity.
    #[must_use]
    pub const fn is_even(&self) -> bool {
        matches!(self, Self::Even)
    }

    /// `x · H` for the rows of x, k × n.
    pub(crate) fn applied(&self, x: &Double) -> Result<Double> {
        match self {
            Self::Even => Ok(x.clone()),
            Self::Diagonal(numbers) => Ok(x.clone().scaled_columns(numbers)),
            Self::Full(full) => Ok(x.times_symmetric(&full.matrix)?),
        }
    }

    /// The lower triangle of `x · H · xᵀ`, k × k, for x of k × n. Of x · H there is a part of the columns at a time.
    pub(crate) fn gram(&self, x: &Double) -> Result<Double> {
        let full = match self {
            Self::Even => return Ok(x.symmetric_product(x)?),
            Self::Diagonal(_) => return Ok(self.applied(x)?.symmetric_product(x)?),
            Self::Full(full) => full,
        };
        let mut gram = Double::zeros(x.rows(), x.rows());
        for first in (0..x.cols()).step_by(PART) {
            let columns = first..x.cols().min(first + PART);
            let weighted = x.times_symmetric_columns(&full.matrix, columns.clone())?;
            gram.add_symmetric_product(&weighted, (x, columns))?;
        }
        Ok(gram)
    }

    /// `Lᵀ · x` with L Lᵀ = G, for the columns of x, n × k. Computes the root here where that was not done beforehand.
    pub(crate) fn root_applied(&self, x: Double) -> Result<Double> {
        match self {
            Self::Even => Ok(x),
            Self::Diagonal(numbers) => Ok(x.scaled_rows(&roots(numbers))),
            Self::Full(full) => match &full.root {
                Some(root) => Ok(root.applied(&x)?),
                None => Ok(Root::of(&full.matrix)?.applied(&x)?),
            },
        }
    }
}

/// Square roots; numbers that rounding made negative count as 0.
pub(crate) fn roots(squares: &[f64]) -> Vec<f64> {
    squares.iter().map(|x| x.max(0.0).sqrt()).collect()
}
