//! Dense linear algebra, vector kernels and packed integers, on plain slices and row-major matrices.
//!
//! The only crate that names the linear-algebra library (faer) and the one for vector instructions (pulp). It knows no
//! models, no files and no tensors of a framework.
//!
//! | module | contents |
//! |---|---|
//! | [`Matrix`], [`Symmetric`] | row-major `f32`; lower triangle of `f64` |
//! | [`linalg`] | products, Cholesky, eigenvalues, sums of outer products |
//! | [`kernels`] | dot products, exponentials, `SwiGLU`, RMS norm, rotary embedding, attention of one query, spin pool |
//! | [`packed`] | integers of 2, 3, 4 or 8 bits in 32-bit words, and products with them |
//!
//! Work is shared between threads in pieces that the shapes alone decide, and each piece is computed by one thread, so
//! every result has the same bytes on any number of threads. Sums over data and decompositions of them are in `f64`,
//! what belongs to a network in `f32`.
//!
//! ```
//! use compress_numerics::{Matrix, linalg::product};
//!
//! let a = Matrix::new(2, 1, vec![1.0, 2.0])?;
//! let b = Matrix::new(1, 3, vec![1.0, 0.0, -1.0])?;
//! assert_eq!(product(&a, &b)?.data(), [1.0, 0.0, -1.0, 2.0, 0.0, -2.0]);
//! # Ok::<(), compress_numerics::Error>(())
//! ```

mod error;
pub mod kernels;
pub mod linalg;
mod matrix;
pub mod packed;
mod random;
mod symmetric;
mod threads;

pub use error::{Error, Result};
pub use half::f16;
pub use matrix::{Matrix, Shape};
pub use random::Random;
pub use symmetric::Symmetric;
pub use threads::{side_by_side, threads};
