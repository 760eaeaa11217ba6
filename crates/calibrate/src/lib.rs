//! Evidence about a model's weights, from running it over a calibration text.
//!
//! ```text
//! H = Σ x xᵀ   over what enters a weight       one pass forward
//! G = Σ g gᵀ   over the gradients of the loss by its outputs       one pass back
//! f_j = Σ_samples Σ_i (∂L/∂w_ij)²              the Fisher information of each input, in the same pass
//! d_l = mean KL(p_l ‖ p_(l−1))                 of the logit lens of neighbouring blocks       in the pass forward
//! ```
//!
//! **Memory is that of one block.** All windows go through a block before the next one is loaded; what is between the
//! blocks, the residual stream of every window, lies on disk. A [`Sequential`] pass stops where weights read, measures
//! there, and lets go of that once those weights are compressed. The backward pass does the same from the last block
//! to the first: with a block's input from disk it runs the block again, and walks back through it.
//!
//! **Sums lose next to nothing** (3·10⁻⁷). Products of at most 256 tokens are summed in `f32`, everything above that in
//! `f64`, in an order that depends on nothing but the text: the same bytes for any number of threads.
//!
//! **What must be known before is kept.** An [`EvidenceStore`] is a directory of safetensors files, one per input and
//! per weight, that belongs to one model and one list of tokens. A killed run goes on from the last finished block, a
//! second run finds all of it done, and nobody removes it while a run uses it.
//!
//! L is the mean loss of a window, as in training, and a window is a sample.

mod accumulate;
mod backward;
mod cache;
mod caches;
mod calibrate;
mod error;
mod footprint;
mod host;
mod lens;
mod measure;
mod measured;
mod numbers;
mod progress;
mod refit;
mod sequential;
mod stages;
mod states;
mod store;
mod trace;

pub use backward::{Gradients, backward, of_loss, of_loss_after_norm};
pub use cache::{Kept, kept, shrink};
pub use caches::cache_errors;
pub use calibrate::calibrate;
pub use error::{Error, Result};
pub use footprint::{PassFootprint, between_blocks, evidence};
pub use host::length;
pub use measured::Measured;
pub use progress::Progress;
pub use refit::{Behind, RefitTarget};
pub use sequential::Sequential;
pub use states::{States, Writing};
pub use store::{EvidenceStore, remove_unused};
pub use trace::{BlockTrace, trace};
