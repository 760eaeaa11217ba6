//! A root L of a positive semidefinite matrix, L Lᵀ = G, n × n.
//!
//! The Cholesky factor, n³ / 3 operations on all cores. Where G is singular in spite of its damping there is none, and
//! the root is V Λ^½ of its eigenvectors and eigenvalues, which takes many times as long.

use compress_numerics::{
    Result, Symmetric,
    linalg::{Cholesky, Double},
};

use crate::metric::roots;

/// L with L Lᵀ = G.
#[derive(Debug)]
pub enum Root {
    /// The Cholesky factor.
    Triangular(Cholesky),
    /// Eigenvectors V as columns, and the roots of the eigenvalues.
    Eigen(Double, Vec<f64>),
}

impl Root {
    /// The root of a positive semidefinite matrix; fails where not even the eigenvalues converge.
    pub fn of(g: &Symmetric) -> Result<Self> {
        if let Ok(factor) = Cholesky::new(g.clone()) {
            return Ok(Self::Triangular(factor));
        }
        let (values, vectors) = Double::from(g).top_eigenvectors(g.size())?;
        Ok(Self::Eigen(vectors, roots(&values)))
    }

    /// `Lᵀ · x` for the columns of x, n × k.
    pub fn applied(&self, x: &Double) -> Result<Double> {
        match self {
            Self::Triangular(factor) => factor.root_times(x),
            Self::Eigen(vectors, roots) => Ok(vectors.transposed_times(x)?.scaled_rows(roots)),
        }
    }
}
