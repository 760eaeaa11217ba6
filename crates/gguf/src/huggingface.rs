//! The Hugging Face checkpoint that a file was converted from: tensor names, values and config.
//!
//! The conversion to GGUF renames the tensors and, for the architecture `llama` only, reorders the
//! rows of the query and key projections, because ggml rotates neighbouring pairs where
//! transformers rotates the halves of a head against each other. [`values`] undoes the reordering
//! along with the quantisation; nothing else about the tensors changes.

mod architecture;
mod config;
mod llama3;
mod name;
mod rotary;
mod scaling;

pub use self::config::config;
pub use self::name::tensor_name;
pub use self::rotary::unpermute_rows;
pub use self::scaling::DIVISORS;

use self::architecture::Architecture;
use crate::{Error, Gguf, dequantise};

/// Decodes a tensor by its GGUF name: `f32` values, row by row, in the checkpoint's row order.
///
/// `file` is the whole file that `gguf` was parsed from, of a split model that of the tensor's part.
/// Fails where there is no such tensor,
/// `file` is too short for it, or metadata needed for the row order are missing. Takes 4 bytes per
/// value; reordering adds the values of one head.
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
        // The product over no dimensions is 1, which is right for a bias.
        let cols = tensor.shape.iter().skip(1).product();
        unpermute_rows(heads, &mut values, cols)?;
    }
    Ok(values)
}

/// Number of heads that a tensor's rows belong to, where the conversion reordered them; none where
/// the rows are in the checkpoint's order.
///
/// Fails where the number of heads is missing from the metadata, or the architecture is not known.
pub fn permuted_heads(gguf: &Gguf, gguf_name: &str) -> Result<Option<usize>, Error> {
    let (architecture, keys) = Architecture::of(gguf)?;
    // For qwen2 and qwen3 ggml rotates the halves of a head as transformers does.
    if architecture != Architecture::Llama {
        return Ok(None);
    }
    match name::block_module(gguf_name) {
        Some("attn_q") => keys.heads().map(Some),
        Some("attn_k") => keys.key_value_heads().map(Some),
        _ => Ok(None),
    }
}

/// What to tell people about how the config was read; nothing where there is no doubt.
pub(crate) fn warning(gguf: &Gguf) -> Result<Option<String>, Error> {
    let (_, keys) = Architecture::of(gguf)?;
    scaling::warning(keys)
}

/// The error that a feature is not supported.
fn unsupported(feature: impl Into<String>) -> Error {
    Error::Unsupported {
        feature: feature.into(),
    }
}
