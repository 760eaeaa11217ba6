//! The errors of the numerics: shapes that do not fit, packings that are not known, iterations that do not converge.

use crate::Shape;

/// The result of a computation that may fail.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice whose length is not that of the shape.
    #[error("a {shape} matrix needs {} numbers, got {found}", shape.size())]
    Length {
        /// The shape asked for.
        shape: Shape,
        /// The length of the slice.
        found: usize,
    },

    /// Two matrices whose inner dimensions differ.
    #[error("cannot multiply a {left} matrix by a {right} matrix")]
    Product {
        /// Shape of the left matrix.
        left: Shape,
        /// Shape of the right matrix.
        right: Shape,
    },

    /// A packed weight whose counts of words, scales or zero points do not fit its shape, bits and group size.
    #[error(
        "a packed {shape} weight of {bits} bits in groups of {group} has other numbers of words, scales or zero points"
    )]
    Packing {
        /// The shape asked for.
        shape: Shape,
        /// The width of a code.
        bits: usize,
        /// Inputs that share a scale.
        group: usize,
    },

    /// A decomposition that failed: not converged, not positive definite, or with results that are not finite.
    #[error("the {what} of a {shape} matrix did not converge")]
    Convergence {
        /// The decomposition.
        what: &'static str,
        /// The shape of the matrix.
        shape: Shape,
    },

    /// A number of eigenvectors or singular vectors outside 1..=n.
    #[error("a rank of {count} is not within 1..={limit}")]
    Count {
        /// The number asked for.
        count: usize,
        /// The number that exist.
        limit: usize,
    },

    /// A code width that cannot be packed.
    #[error("`{text}` is not a number of bits: 2, 3, 4 or 8")]
    Bits {
        /// The text or number given.
        text: String,
    },
}
