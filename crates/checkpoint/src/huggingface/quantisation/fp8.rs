//! The methods `fp8` (DeepSeek-V3, Qwen3, Mistral) and `fbgemm_fp8`: E4M3 with scales.
//!
//! ```text
//! fp8          W[i, j] = code[i, j] · weight_scale_inv[i / a, j / b]    [a, b] = weight_block_size
//!              W[i, j] = code[i, j] · weight_scale                      without it
//! fbgemm_fp8   W[i, j] = code[i, j] · weight_scale[i]
//! ```
//!
//! In spite of its name, `weight_scale_inv` is what a code is multiplied by. Which layers are
//! stored so shows in the dtypes of their tensors; the settings that tell it
//! (`modules_to_not_convert`) are matched in a different way by every program that reads them.

use serde_json::Value;

use super::{
    Code, Extent, Known, Scaling, Storage, only_known_in, scaling::block, targets::Targets,
};

/// Settings of `fp8`. `scale_fmt` tells how the scales were rounded.
const FP8: Known = [
    &[
        "quant_method",
        "fmt",
        "weight_block_size",
        "activation_scheme",
    ],
    &[
        "modules_to_not_convert",
        "ignored_layers",
        "scale_fmt",
        "dequantize",
    ],
];

/// Settings of `fbgemm_fp8`. The bound is on the inputs of layers while the model runs.
const FBGEMM: Known = [
    &["quant_method"],
    &["modules_to_not_convert", "activation_scale_ub"],
];

/// Reads a block of the method `fp8`.
pub fn parse(settings: &Value) -> Result<Targets<Storage>, String> {
    only_known_in(settings, FP8)?;
    if !settings["fmt"].is_null() && settings["fmt"] != "e4m3" {
        return Err(format!("has the `fmt` {}, not e4m3", settings["fmt"]));
    }
    if !matches!(
        settings["activation_scheme"].as_str(),
        None | Some("dynamic" | "static")
    ) {
        let scheme = &settings["activation_scheme"];
        return Err(format!("has the `activation_scheme` {scheme}"));
    }
    let size = &settings["weight_block_size"];
    let extent = if size.is_null() {
        Extent::Tensor
    } else {
        block(size).ok_or_else(|| format!("has the `weight_block_size` {size}"))?
    };
    of_all_layers(extent)
}

/// Reads a block of the method `fbgemm_fp8`.
pub fn parse_fbgemm(settings: &Value) -> Result<Targets<Storage>, String> {
    only_known_in(settings, FBGEMM)?;
    of_all_layers(Extent::Row)
}

/// Both methods round the inputs of their layers, `static` ones by scales in the file.
fn of_all_layers(extent: Extent) -> Result<Targets<Storage>, String> {
    let scaling = Scaling {
        code: Code::E4m3,
        extent,
        symmetric: true,
        inputs_rounded: true,
    };
    Targets::new([("Linear".into(), Storage::Scaled(scaling))].into(), [])
}
