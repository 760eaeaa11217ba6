//! The contract that every compression method fulfils, and the artefact that it produces.
//!
//! A decoder has seven linear weights per block. Each is a [`Site`]; a method is asked for a
//! [`Plan`] of [`Step`]s over sites under a [`Budget`], and then turns each step into [`Edit`]s: this
//! site becomes that [`Factor`]. What running the model over text tells comes in as [`Evidence`]. Nothing here knows files, networks or tensors of a framework:
//! weights come in through [`Weights`] as plain row-major [`Matrix`] values.
//!
//! ```
//! use compress_core::{Factor, Matrix};
//!
//! // The 2 × 3 matrix of rank one, kept as two thin factors.
//! let factor = Factor::LowRank {
//!     up: Matrix::new(2, 1, vec![1.0, 2.0])?,        // out × r
//!     down: Matrix::new(1, 3, vec![1.0, 0.0, -1.0])?, // r × in
//! };
//! assert_eq!(factor.dense()?.data(), [1.0, 0.0, -1.0, 2.0, 0.0, -2.0]);
//! # Ok::<(), compress_core::Error>(())
//! ```

mod bits;
mod budget;
mod dot;
mod error;
mod evidence;
mod exponential;
mod factor;
mod format;
mod grid;
pub mod linalg;
mod matrix;
mod method;
pub mod packed;
mod packing;
mod plan;
mod quantised;
mod random;
mod scheme;
mod selection;
mod site;
mod stream;
mod survey;
mod swiglu;
mod symmetric;
pub mod testing;
mod threads;
mod token;

pub use bits::Bits;
pub use budget::Budget;
pub use dot::multiply_rows;
pub use error::{Error, Result};
pub use evidence::{Evidence, Needs, Tokens};
pub use exponential::{exponentiate, log_sum_exp};
pub use factor::{Contents, Correction, Factor, Form, Numbers, Part};
pub use format::Format;
pub use grid::Grid;
pub use half::f16;
pub use matrix::{Matrix, Shape};
pub use method::{Edit, Method, Step, Truncate};
pub use plan::{Kind, Plan, Planned, SourceId, Version};
pub use quantised::Quantised;
pub use random::Random;
pub use scheme::Scheme;
pub use selection::{Pattern, Selection};
pub use site::{Role, Site};
pub use stream::{Inlet, Stream, by_stream};
pub use survey::{Survey, Weights};
pub use swiglu::{swiglu, swiglu_backward};
pub use symmetric::Symmetric;
pub use threads::{side_by_side, threads};
pub use token::{attend_one, rms_norm, rotate_halves};
