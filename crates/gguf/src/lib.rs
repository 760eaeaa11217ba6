//! Reads GGUF files of the Llama family: the container, its block formats, and the Hugging Face checkpoint that such a file was made from.
//!
//! The bytes stay with the caller, usually memory-mapped: [`Gguf::parse`] reads the header only, [`dequantise`] turns one tensor's bytes
//! into numbers, [`huggingface`] names, orders and describes the tensors as transformers would, and [`tokenizer()`] rebuilds the tokenizer.
//! Every length, count and offset is checked against the file first, so that a hostile file costs an error, never a panic.
//!
//! ```
//! let empty = [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &0_u64.to_le_bytes()].concat();
//! let gguf = compress_gguf::Gguf::parse(&empty)?;
//! assert!(gguf.tensors().is_empty() && gguf.metadata().is_empty());
//! # Ok::<(), compress_gguf::Error>(())
//! ```
//!
//! # References
//! The GGUF specification, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod block_type;
mod dequantise;
mod error;
mod gguf;
pub mod huggingface;
mod metadata;
mod reader;
mod tensor;
mod tokenizer;
mod value;

pub use crate::block_type::BlockType;
pub use crate::dequantise::dequantise;
pub use crate::error::Error;
pub use crate::gguf::Gguf;
pub use crate::tensor::Tensor;
pub use crate::tokenizer::tokenizer;
pub use crate::value::Value;
