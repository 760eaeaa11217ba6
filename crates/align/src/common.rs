//! What turned layers have in common: an atom, a coefficient for each layer, and a residual of low rank.
//!
//! ```text
//! R = truncate(W − c D)      c = ⟨W − R, D⟩ / ⟨D, D⟩      D = Σ_l c_l (W_l − R_l) / Σ_l c_l²
//! ```
//!
//! Residuals are made when they are needed: of all layers together they would take as much as the layers.

use compress_core::{Matrix, Result};
use compress_svd::truncate;

/// The atom of value or of output, with what makes the next one.
pub struct Common {
    atom: Matrix,
    /// c of each layer.
    coefficients: Vec<f64>,
    /// The rank of residuals.
    rank: usize,
    /// Σ c (W − R) and Σ c², of the layers that were taken since the atom was made.
    sums: (Matrix, f64),
}

/// A weight, as atom and residual have it.
pub struct Part {
    /// c D + R.
    pub target: Matrix,
    /// R.
    pub residual: Matrix,
    /// ‖W − c D − R‖².
    pub left: f64,
}

impl Common {
    /// The sum of so many layers as their atom, all of them with a part of 1; residuals of rank ⌊ρ m n / (m + n)⌋.
    pub fn new(sum: Matrix, layers: usize, residual: f64) -> Self {
        let (shape, mut atom) = (sum.shape(), sum);
        // The mean, of which a layer is about one time.
        let scale = (layers.max(1) as f32).recip();
        atom.data_mut().iter_mut().for_each(|x| *x *= scale);
        Self {
            coefficients: vec![1.0; layers],
            rank: ((residual * shape.break_even_rank()) as usize).min(shape.full_rank()),
            sums: (Matrix::zeros(shape.rows, shape.cols), 0.0),
            atom,
        }
    }

    /// A layer's turned weight by its coefficient and its best residual.
    pub fn part(&self, layer: usize, weight: &Matrix) -> Result<Part> {
        let mut rest = weight.clone();
        add(&mut rest, -self.coefficients[layer], &self.atom);
        let residual = if self.rank == 0 {
            Matrix::zeros(rest.rows(), rest.cols())
        } else {
            truncate(&rest, self.rank)?.dense()?
        };
        let left = rest.squared_distance(&residual);
        let mut target = residual.clone();
        add(&mut target, self.coefficients[layer], &self.atom);
        Ok(Part {
            target,
            residual,
            left,
        })
    }

    /// Fits a layer's coefficient beside its residual, and takes it into the next atom.
    pub fn take(&mut self, layer: usize, weight: &Matrix, residual: &Matrix) {
        let mut shared = weight.clone();
        add(&mut shared, -1.0, residual);
        let length = self.atom.squared_norm();
        let coefficient = if length > 0.0 {
            dot(&shared, &self.atom) / length
        } else {
            0.0
        };
        self.coefficients[layer] = coefficient;
        add(&mut self.sums.0, coefficient, &shared);
        self.sums.1 += coefficient * coefficient;
    }

    /// The atom that is best for the layers that were taken, in the place of the old one.
    pub fn renew(&mut self) {
        let zeros = Matrix::zeros(self.atom.rows(), self.atom.cols());
        let (mut sum, squares) = std::mem::replace(&mut self.sums, (zeros, 0.0));
        // No layer has a part of it: then any atom will do.
        if squares > 0.0 {
            let scale = squares.recip() as f32;
            sum.data_mut().iter_mut().for_each(|x| *x *= scale);
            self.atom = sum;
        }
    }
}

/// ⟨A, B⟩ of two matrices of one shape, summed one number after the other.
fn dot(a: &Matrix, b: &Matrix) -> f64 {
    let pairs = a.data().iter().zip(b.data());
    pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// A + share · B.
pub fn add(to: &mut Matrix, share: f64, other: &Matrix) {
    let share = share as f32;
    let pairs = to.data_mut().iter_mut().zip(other.data());
    pairs.for_each(|(x, y)| *x += share * y);
}
