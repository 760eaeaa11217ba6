//! Dense linear algebra on faer: products, Cholesky, symmetric eigenproblems, sums of outer products.
//!
//! | | floating-point operations | shared between threads |
//! |---|---|---|
//! | products | 2·m·n·k | tiles of the result |
//! | [`Cholesky`], [`InverseRoot`] | n³ / 3, n³ · 2 / 3 | bands of rows |
//! | eigenvalues | 4/3·n³ for the reduction to tridiagonal form | parts of a product with one vector, tiles; one if small |
//! | k eigenvectors | the tridiagonal solution, and 2·n²·k to take them back | one for the solution, bands of vectors |
//! | sums of outer products | t·n² for t tokens, lower triangle | bands of rows, by the caller |
//!
//! Work that is shared between threads is cut into pieces that the shape alone decides, and each piece is one thread's:
//! so every result has the same bytes for any number of threads. Nothing here holds a lock, so that a thread that waits
//! for others may do other work meanwhile.

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
pub use dense::{Dense, Double, Single, UNFOLDED};
pub use eigen::{Eigen, Gram, eigen_memory, short_gram, singular_values};
pub use product::{PACKED, product, product_of_transposed};
pub use real::Real;
pub use rows::{Block, Columns, Rows};
pub use slab::{
    Right, Slab, add_product_of_transposed, product_by_panels, product_into, product_of_slabs,
    product_of_transposed_slabs,
};
pub use sums::{add_cross_products, add_outer_products};

/// Fails where the inner dimensions of a product a · b differ.
fn fit<T>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<()> {
    if a.ncols() == b.nrows() {
        return Ok(());
    }
    Err(Error::Product {
        left: Shape::new(a.nrows(), a.ncols()),
        right: Shape::new(b.nrows(), b.ncols()),
    })
}
