//! Models as people have them: read one tensor at a time, write as a Hugging Face directory.
//!
//! A [`Checkpoint`] is a Hugging Face directory (one safetensors file or shards) or a GGUF file, read where
//! its tensors lie, so that nothing but the tensor at hand takes memory. It knows its [`Config`], its
//! tokenizer, and each weight as the [`Factor`](compress_core::Factor) that is stored, including the
//! low-rank layout that a [`Writer`] puts out.
//!
//! ```no_run
//! use compress_checkpoint::Checkpoint;
//! use compress_core::{Role, Site};
//!
//! let model = Checkpoint::open("SmolLM2-135M".as_ref())?;
//! println!("{} blocks of width {}", model.config().layers, model.config().hidden);
//! let factor = model.factor(Site::new(0, Role::Query))?;
//! println!("query of block 0: {}", factor.shape());
//! # Ok::<(), compress_checkpoint::Error>(())
//! ```

mod digest;
mod error;
mod huggingface;
pub mod names;
mod read;
mod record;
mod selection;
mod write;

pub use huggingface::architecture::Architecture;
pub use huggingface::config::{Config, Llama3Scaling};
pub use read::checkpoint::Checkpoint;
pub use write::card::Card;

pub use error::{Error, Result};
pub use huggingface::quantisation::Schemes;
pub use read::directory::parse_header;
pub use read::tensor::{Kind, Tensor};
pub use record::Record;
pub use selection::{Pattern, Selection};
pub use write::durable::put_in_place;
pub use write::journal::Finished;
pub use write::layout::{Layout, MAX_SHARD_BYTES, OutputSpec};
pub use write::lock::{Lock, is_at};
pub use write::output::{Input, Output, resolved};
pub use write::writer::{Published, Writer};
