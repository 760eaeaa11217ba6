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

mod adapter;
mod architecture;
mod card;
mod checkpoint;
mod config;
mod digest;
mod directory;
mod durable;
mod error;
mod gguf;
mod journal;
mod layout;
mod lock;
mod modelling;
pub mod names;
mod output;
mod quantisation;
mod reading;
mod record;
mod selection;
mod settings;
mod shards;
mod tensor;
mod unknown;
mod untouched;
mod weight_file;
mod weights;
mod work;
mod writer;

pub use architecture::Architecture;
pub use card::Card;
pub use checkpoint::Checkpoint;
pub use config::{Config, Llama3Scaling};

pub use directory::parse_header;
pub use durable::put_in_place;
pub use error::{Error, Result};
pub use journal::Finished;
pub use layout::{Layout, MAX_SHARD_BYTES, OutputSpec};
pub use lock::{Lock, is_at};
pub use output::{Input, Output, resolved};
pub use quantisation::Schemes;
pub use record::Record;
pub use selection::{Pattern, Selection};
pub use tensor::{Kind, Tensor};
pub use writer::{Published, Writer};
