//! Reads GGUF files of the Llama family: the container, its block formats, and the Hugging Face
//! checkpoint that such a file was converted from.
//!
//! ```text
//! magic, version, counts | metadata | tensor entries | padding | tensor data
//! ```
//!
//! The bytes stay with the caller, usually memory-mapped: [`Gguf::parse`] reads the header only,
//! [`dequantise`] decodes the blocks of a tensor to `f32`, [`huggingface`] gives names, row order
//! and `config.json` as transformers has them, and [`tokenizer()`] rebuilds the tokenizer. Every
//! length, count and offset is checked against the file before memory is set aside for it, so
//! that a malformed file gives an error and never a panic. A model that is split into several files
//! is parsed file by file and put together by [`Gguf::join`].
//!
//! Needs versions 2 or 3 in little endian, the architectures llama, qwen2 or qwen3, and the block
//! types of [`BlockType`]; others are refused by name. Costs: parsing is linear in the header,
//! most of which is the vocabulary; decoding is one pass over a tensor.
//!
//! ```
//! let (version, tensors, metadata) = (3_u32, 0_u64, 0_u64);
//! let counts = [tensors.to_le_bytes(), metadata.to_le_bytes()].concat();
//! let empty = [b"GGUF".as_slice(), &version.to_le_bytes(), &counts].concat();
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
mod split;
mod tensor;
mod tokenizer;
mod value;

pub use crate::block_type::BlockType;
pub use crate::dequantise::dequantise;
pub use crate::error::Error;
pub use crate::gguf::Gguf;
pub use crate::split::Part;
pub use crate::tensor::Tensor;
pub use crate::tokenizer::tokenizer;
pub use crate::value::Value;

/// The parts of a tokenizer that do not depend on GGUF, for vocabularies in other files.
pub mod parts {
    pub use crate::tokenizer::byte_level::qwen2;
    pub use crate::tokenizer::sentence_piece::{decoder, model, normalizer};
    pub use crate::tokenizer::template::around_text;
}
