//! The Hugging Face checkpoint that a file was converted from: its tensors' names, values and
//! configuration.
//!
//! The conversion to GGUF renames the tensors and, for the architecture `llama` only, reorders the
//! rows of the query and key projections, because ggml rotates neighbouring pairs where
//! transformers rotates the halves of a head against each other. [`values`] undoes the reordering
//! along with the quantisation; nothing else about the tensors changes.

mod architecture;
mod config;
mod name;
mod rotary;

pub use self::config::config;
pub use self::name::tensor_name;
pub use self::rotary::unpermute_rows;

use self::architecture::Architecture;
use crate::{Error, Gguf, dequantise};

/// The values of the tensor called `gguf_name` in `file`, row by row, as the checkpoint has them.
///
/// Fails where there is no such tensor, `file` is not the one that was parsed, or the metadata
/// needed for the order of the rows are missing.
pub fn values(gguf: &Gguf, file: &[u8], gguf_name: &str) -> Result<Vec<f32>, Error> {
    let tensor = gguf
        .tensors()
        .get(gguf_name)
        .ok_or_else(|| Error::MissingTensor {
            tensor: gguf_name.to_owned(),
        })?;
    let bytes = file
        .get(tensor.range.clone())
        .ok_or_else(|| Error::OutOfRange {
            tensor: gguf_name.to_owned(),
            file: file.len(),
        })?;
    let mut values = vec![0.0; tensor.shape.iter().product()];
    dequantise(tensor.kind, bytes, &mut values)?;
    if let Some(heads) = permuted_heads(gguf, gguf_name)? {
        let cols = tensor.shape.iter().skip(1).product();
        unpermute_rows(heads, &mut values, cols)?;
    }
    Ok(values)
}

/// How many heads the rows of a tensor belong to, where the conversion reordered them; nothing
/// where it left them alone.
///
/// Fails where the number of heads is missing from the metadata, or the architecture is not a known
/// one.
pub fn permuted_heads(gguf: &Gguf, gguf_name: &str) -> Result<Option<usize>, Error> {
    let (architecture, keys) = Architecture::of(gguf)?;
    if architecture != Architecture::Llama {
        return Ok(None);
    }
    match name::block_module(gguf_name) {
        Some("attn_q") => keys.heads().map(Some),
        Some("attn_k") => keys.key_value_heads().map(Some),
        _ => Ok(None),
    }
}
