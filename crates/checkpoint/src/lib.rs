//! Model files: read one tensor at a time, written as a Hugging Face directory.
//!
//! A [`Checkpoint`] is a Hugging Face directory (one safetensors file, or shards with an index) or
//! a GGUF file. Opening it reads headers only; a tensor takes memory while it is used. It has the
//! parsed [`Config`], the tokenizer, and each weight as the [`Factor`](compress_core::Factor) that
//! is stored, including the low-rank and rounded forms that a [`Writer`] writes.
//!
//! A [`Layout`] computes headers, offsets and sizes of an output before any weight is. A [`Writer`]
//! fills it in a work directory, keeps a journal there so that a killed run continues, and renames
//! the finished model to its name, so that a reader sees the whole model or none.
//!
//! ```text
//! OUT/config.json                       the source's, plus quantization and low-rank settings
//! OUT/model.safetensors                 or model-00001-of-0000N.safetensors with an index
//! OUT/adapter/                          corrections of rounded weights, a PEFT adapter
//! OUT/modeling_lowrank.py               where weights are low-rank pairs
//! OUT/compression.json, OUT/README.md   the record and the model card
//! OUT/tokenizer.json, ...               copied from the source
//! ```
//!
//! Needs one of the architectures that [`Architecture`] lists. Costs: opening, the headers;
//! writing, a pass over the source, and memory for the weights that are being computed.
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
pub use huggingface::config::rotary::{Llama3Scaling, Rope, RopeScaling, YarnScaling};
pub use huggingface::config::{Config, Head};
pub use read::chat::Message;
pub use read::checkpoint::Checkpoint;
pub use write::card::Card;

pub use error::{Error, Result};
pub use read::directory::parse_header;
pub use read::policy::{CACHE_POLICY, read_policy};
pub use read::scaled::Scaled;
pub use read::tensor::{Kind, Tensor};
pub use record::Record;
pub use selection::{Pattern, Selection};
pub use write::durable::{put_in_place, settle};
pub use write::journal::Finished;
pub use write::layout::{Layout, MAX_SHARD_BYTES, OutputSpec};
pub use write::lock::{Lock, is_at};
pub use write::output::{Input, Output, resolved};
pub use write::schemes::Schemes;
pub use write::writer::{Published, Writer};
