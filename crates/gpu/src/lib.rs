//! Kernels for GPUs, in [`CubeCL`](cubecl): what burn has not, or has in lower precision than an evaluation may take.
//!
//! ```text
//! packed      Y = X Wᵀ and G W for W in integers of 2, 3, 4 or 8 bits or in floats of 16, which stay so on the device
//! attention   softmax(Q Kᵀ / √d) V, causal, summed in f32 whatever the device offers for less
//! ```
//!
//! Both take and give burn's tensors. They answer `None` for a tensor that is not a plain `f32` one on a GPU (on the
//! CPU, under autodiff): callers then take another way.
//!
//! burn's attention may choose products of `f16` fragments, and its quantised tensors have no groups with zero points;
//! everything else is left to it.

mod attention;
mod kernels;
mod packed;
mod tensor;

pub use attention::attend;
pub use packed::{Packed, fits_16_bits};
pub use tensor::largest_buffer;
