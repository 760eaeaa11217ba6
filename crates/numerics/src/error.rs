//! Shapes that do not fit, and iterations that do not converge.

use crate::Shape;

/// The result of a computation on matrices.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix whose data does not fill its shape.
    #[error("a {shape} matrix needs {} numbers, got {found}", shape.size())]
    Length {
        /// The shape asked for.
        shape: Shape,
        /// How many numbers came.
        found: usize,
    },

    /// Two matrices that cannot be multiplied.
    #[error("cannot multiply a {left} matrix by a {right} matrix")]
    Product {
        /// Shape of the left matrix.
        left: Shape,
        /// Shape of the right matrix.
        right: Shape,
    },

    /// A packed weight whose parts do not fit each other.
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

    /// An iteration of the linear algebra did not converge.
    #[error("the {what} of a {shape} matrix did not converge")]
    Convergence {
        /// Which decomposition.
        what: &'static str,
        /// Of which matrix.
        shape: Shape,
    },

    /// More singular vectors than there are, or none.
    #[error("a rank of {count} is not within 1..={limit}")]
    Count {
        /// How many were asked for.
        count: usize,
        /// How many there are.
        limit: usize,
    },

    /// A number of bits that integers are not packed with.
    #[error("`{text}` is not a number of bits: 2, 3, 4 or 8")]
    Bits {
        /// What was given.
        text: String,
    },
}
