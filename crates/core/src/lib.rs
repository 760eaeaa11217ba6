//! The contract that every compression method fulfils, and the artefact that it produces.
//!
//! A decoder has seven linear weights per block. Each is a [`Site`]; a method is asked for a
//! [`Plan`] of [`Step`]s over sites under a [`Budget`], and then turns each step into [`Edit`]s: this
//! site becomes that [`Factor`]. Calibration statistics (H = Σ x xᵀ of a layer input, gradients of the loss) come in
//! as [`Evidence`]. Nothing here knows files, networks or tensors of a framework: weights come in through
//! [`Weights`] as plain row-major [`Matrix`] values in `f32`, out × in.
//!
//! The laws that every method must obey are in [`testing`]; [`laws!`](crate::laws) makes one test of each.
//!
//! ```
//! use compress_core::{Factor, Matrix};
//!
//! // The 2 × 3 matrix of rank one, kept as two thin factors.
//! let up = Matrix::new(2, 1, vec![1.0, 2.0])?; // out × r
//! let down = Matrix::new(1, 3, vec![1.0, 0.0, -1.0])?; // r × in
//! let factor = Factor::low_rank(up, down);
//! assert_eq!(factor.dense()?.data(), [1.0, 0.0, -1.0, 2.0, 0.0, -2.0]);
//! # Ok::<(), compress_core::Error>(())
//! ```

mod budget;
mod dictionary;
mod error;
mod evidence;
mod factor;
mod form;
mod format;
mod grid;
mod layer_input;
mod method;
mod plan;
mod quantised;
mod scheme;
mod site;
mod survey;
pub mod testing;

pub use budget::Budget;
// Re-exported, so that a method's crate needs no dependency on the numerics for its signatures.
pub use compress_numerics::{Matrix, Shape, Symmetric, f16, packed::Bits};
pub use dictionary::{Dictionaries, DictionariesInMemory, Dictionary, DictionaryForm, Group};
pub use error::{Error, Result};
pub use evidence::{Evidence, Needs, TokenWeights};
pub use factor::{Factor, Pair, Store};
pub use form::{Form, PairForm, Precision};
pub use format::Format;
pub use grid::Grid;
pub use layer_input::{InputKind, LayerInput, by_input};
pub use method::{Edit, Method, Step, Truncate, compress_all};
pub use plan::{Kind, Plan, Planned, SourceId, Version};
pub use quantised::Quantised;
pub use scheme::Scheme;
pub use site::{Role, Site};
pub use survey::{Survey, Weights};
