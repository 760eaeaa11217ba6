//! The networks: one decoder in burn that Llama, Mistral, Qwen2 and Qwen3 configure.
//!
//! ```text
//! h ← embedding[token]                                 hidden
//! h ← h + output(attention(norm(h)))                   for every block
//! h ← h + down(silu(gate(norm h)) ⊙ up(norm h))
//! logits = head(norm(h))                               vocabulary
//! ```
//!
//! A linear layer executes the [`Factor`](compress_core::Factor) that it was given: a low-rank pair runs as two
//! products and is never multiplied out; a mixture of shared atoms is, unless [`Mixtures`] say otherwise. Tensors keep Hugging Face's layout, out × in. A [`Decoder`] holds floats as
//! `f32` and packed integers as they are stored; a [`Streamed`] network holds one block of them.
//!
//! ```no_run
//! use compress_checkpoint::Checkpoint;
//! use compress_models::{Decoder, Device, generate};
//!
//! let checkpoint = Checkpoint::open("stories15m".as_ref())?;
//! let decoder = Decoder::load(&checkpoint, &Device::flex())?;
//! let story = generate(&decoder, &[1], 100)?; // greedy, from BOS
//! # Ok::<(), compress_models::Error>(())
//! ```

mod attention;
mod block;
mod causal;
mod decode;
mod decoder;
mod device;
mod error;
mod feed_forward;
mod gpu;
mod host;
mod linear;
mod load;
mod mixture;
mod network;
mod norm;
mod product;
mod rotary;
mod store;
mod streamed;
mod vjp;
mod weights;

pub use attention::{Attention, AttentionGradients};
pub use block::Block;
pub use burn::tensor::{Device, Tensor};
pub use decode::cache::{Cache, LayerCache};
pub use decode::generate::{Generation, generate};
pub use decode::sample::Sampler;
pub use decoder::{Decoder, SLICE, slices};
pub use device::{AUTOTUNE, Adapter, CPU, DeviceChoice, adapters};
pub use error::{Error, Result};
pub use feed_forward::FeedForward;
pub use host::{to_device, to_host};
pub use linear::{Linear, Sum, Weight};
pub use mixture::{Mixture, Mixtures};
pub use network::Network;
pub use norm::rms_norm;
pub use rotary::{Rotary, RotaryAngles};
pub use store::{Packed, Pair, Store};
pub use streamed::{SLICES_AT_A_TIME, Streamed};
pub use vjp::vjp;
