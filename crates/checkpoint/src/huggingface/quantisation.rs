//! `quantization_config` in `config.json`: how the weights of a model are stored.
//!
//! | `quant_method` | `format` | read as |
//! |---|---|---|
//! | `compressed-tensors` | `pack-quantized` | packed integers ([`groups`]) |
//! | `compressed-tensors` | `int-quantized`, `float-quantized`, `naive-quantized` | floats |
//! | `fp8`, `fbgemm_fp8` | | floats ([`fp8`]) |
//!
//! The last two lines are weights of one byte with scales. They are multiplied out when they are
//! read, so that any method can work on them, and an output has plain floats in their place.
//!
//! Most of their models round the inputs of layers as well while they run. That is no property of
//! the weights and is not done here; the reader of such a model is told so. Of packed integers
//! rounded inputs are refused: an output keeps the codes, and would lose the setting.

mod fp8;
mod groups;
mod scaling;
mod targets;

use std::path::Path;

use compress_core::Scheme;
use serde_json::{Map, Value};

use crate::{Error, Result, huggingface::settings::only_known};

pub use groups::FORMAT;
pub use scaling::{Code, Extent, Scaling};
use targets::Targets;

/// How the weight of a module is stored where it is not in plain floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Packed integers.
    Packed(Scheme),
    /// Numbers of one byte with scales.
    Scaled(Scaling),
}

/// How the weights of a model are stored, by module.
#[derive(Clone, Debug, Default)]
pub struct Quantisation {
    targets: Targets<Storage>,
}

impl Quantisation {
    /// Reads `quantization_config`; all weights are plain floats where the field is missing or
    /// null. Fails for methods and formats that are not read, and for any setting that is switched
    /// on and not known.
    pub fn parse(json: &Map<String, Value>, path: &Path) -> Result<Self> {
        refuse_mlx(json, path)?;
        let Some(block) = json.get("quantization_config").filter(|v| !v.is_null()) else {
            return Ok(Self::default());
        };
        let targets = match block["quant_method"].as_str() {
            Some("compressed-tensors") => groups::parse(block),
            Some("fp8") => fp8::parse(block),
            Some("fbgemm_fp8") => fp8::parse_fbgemm(block),
            Some(other) => Err(format!("has the `quant_method` {other}")),
            None => Err("has no `quant_method`".into()),
        };
        let targets = targets.map_err(|problem| {
            let problem = format!("`quantization_config` {problem}; {SUPPORTED}");
            Error::damaged(path, problem)
        })?;
        Ok(Self { targets })
    }

    /// How the weight of a module is stored; none for plain floats.
    #[must_use]
    pub fn storage(&self, module: &str) -> Option<Storage> {
        self.targets.of(module)
    }

    /// The scheme of a module whose weight is packed.
    #[must_use]
    pub fn scheme(&self, module: &str) -> Option<Scheme> {
        match self.storage(module) {
            Some(Storage::Packed(scheme)) => Some(scheme),
            _ => None,
        }
    }
}

/// What is read, as the end of every refusal.
const SUPPORTED: &str = "supported are compressed-tensors' pack-quantized, int-quantized, float-quantized and naive-quantized (FP8 and int8), and the methods fp8 and fbgemm_fp8";

/// Refuses models of MLX, which have a field of their own, and a packing of their own.
fn refuse_mlx(json: &Map<String, Value>, path: &Path) -> Result<()> {
    let of_mlx = |field: &str| {
        let block = json.get(field).and_then(Value::as_object);
        // mlx-lm repeats its block under the usual name, without a method.
        block.is_some_and(|block| block.contains_key("bits") && !block.contains_key("quant_method"))
    };
    match ["quantization", "quantization_config"]
        .into_iter()
        .find(|field| of_mlx(field))
    {
        None => Ok(()),
        Some(field) => {
            let problem = format!(
                "`{field}` says that the weights are packed by MLX, which is not read (`mlx_lm.convert --dequantize` unpacks them); {SUPPORTED}"
            );
            Err(Error::damaged(path, problem))
        }
    }
}

/// Names of settings that are read, and of those without effect on finished weights.
type Known = [&'static [&'static str]; 2];

/// Applies [`only_known`] to an object; anything else is checked where its fields are read.
fn only_known_in(settings: &Value, known: Known) -> std::result::Result<(), String> {
    settings
        .as_object()
        .map_or(Ok(()), |settings| only_known(settings, known))
}
