//! Products, decompositions, sums of outer products.
//!
//! Whatever is shared between threads is shared in pieces that the shape alone decides, each one thread's
//! work: so every result has the same bytes for any number of threads. Nothing here holds a lock.

use faer::MatRef;

use crate::{Error, Result, Shape};

mod cholesky;
mod dense;
mod eigen;
mod product;
mod real;
mod rows;
mod slab;
mod square;
mod sums;

pub use cholesky::{Cholesky, Indefinite, InverseRoot};
pub use dense::{Dense, Double, Single};
pub use eigen::{EIGEN_SQUARES, Eigen, Gram, short_gram, singular_values};
pub use product::{product, product_of_transposed};
pub use real::Real;
pub use rows::{Block, Columns, Rows};
pub use slab::{
    Right, Slab, add_product_of_transposed, product_by_panels, product_into, product_of_slabs,
    product_of_transposed_slabs,
};
pub use sums::{add_cross_products, add_outer_products};

/// Whether two matrices can be multiplied.
fn fit<T>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<()> {
    if a.ncols() == b.nrows() {
        return Ok(());
    }
    Err(Error::Product {
        left: Shape::new(a.nrows(), a.ncols()),
        right: Shape::new(b.nrows(), b.ncols()),
    })
}
