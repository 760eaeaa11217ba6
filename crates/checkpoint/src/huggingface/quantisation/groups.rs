//! The groups of compressed-tensors: settings of weights, and the modules that they are for.
//!
//! Read here: integers of 2, 3, 4 or 8 bits, packed, with scales per group or per row, symmetric
//! or with zero points; FP8 (E4M3) and integers of 8 bits in a byte each, with scales per tensor,
//! row, group or block. A setting with another effect is refused.

use std::collections::BTreeMap;

use compress_core::{Bits, Scheme};
use serde_json::{Map, Value};

use super::{
    Code, Extent, Known, Scaling, Storage, only_known_in, scaling::block, targets::Targets,
};
use crate::huggingface::settings::is_off;

/// The packed format of compressed-tensors, which is also written.
pub const FORMAT: &str = "pack-quantized";

/// Formats with a byte for each number: three names for one layout.
const BYTES: [&str; 3] = ["int-quantized", "float-quantized", "naive-quantized"];

/// Settings of the block.
const BLOCK: Known = [
    &[
        "quant_method",
        "config_groups",
        "format",
        "ignore",
        "quantization_status",
        "sparsity_config",
    ],
    &["version", "global_compression_ratio", "run_compressed"],
];

/// Settings of a group of packed weights. Those of activations are in neither list, and so refused
/// when they are on.
const PACKED_GROUP: Known = [&["targets", "weights", "format"], &[]];

/// Settings of a group of weights in bytes. Outputs of layers are rounded by no scheme that has a
/// name, and not known here.
const BYTES_GROUP: Known = [&["targets", "weights", "format", "input_activations"], &[]];

/// Settings of packed weights. Observers acted while the codes were made; the dtypes of scales and
/// zero points are those of the tensors.
const PACKED: Known = [
    &[
        "num_bits",
        "type",
        "symmetric",
        "strategy",
        "group_size",
        "actorder",
    ],
    MADE_WITH,
];

/// Settings of weights in bytes.
const IN_BYTES: Known = [
    &[
        "num_bits",
        "type",
        "symmetric",
        "strategy",
        "group_size",
        "block_structure",
        "actorder",
    ],
    MADE_WITH,
];

/// Settings that acted while the codes were made, and dtypes that the tensors have themselves.
const MADE_WITH: &[&str] = &["observer", "observer_kwargs", "scale_dtype", "zp_dtype"];

/// Reads the block: the storage of each target, and what is ignored. On failure the problem in
/// words, to be put after the name of the block.
pub fn parse(settings: &Value) -> Result<Targets<Storage>, String> {
    only_known_in(settings, BLOCK)?;
    // `dense` is a sparsity setting without effect; others change how tensors are stored.
    let sparsity = &settings["sparsity_config"];
    if !is_off(sparsity) && sparsity["format"] != "dense" {
        return Err("has a `sparsity_config`".into());
    }
    let mut storages = BTreeMap::new();
    let groups = settings["config_groups"].as_object();
    for (name, group) in groups.into_iter().flat_map(Map::iter) {
        let storage = storage(name, group, &settings["format"])?;
        // Of two groups with the same target, the later one counts.
        let targets = texts("targets", &group["targets"])?.into_iter();
        storages.extend(targets.map(|target| (target, storage)));
    }
    let status = settings["quantization_status"].as_str();
    // In a byte each, finished codes are told from floats by their dtype.
    let in_bytes = |storage: &Storage| matches!(storage, Storage::Scaled(_));
    let finished = match status {
        None | Some("compressed") => true,
        Some("frozen") => !storages.is_empty() && storages.values().all(in_bytes),
        _ => false,
    };
    if !finished || status.is_none() && !settings["quantization_status"].is_null() {
        let status = &settings["quantization_status"];
        return Err(format!("has the `quantization_status` {status}"));
    }
    Targets::new(storages, texts("ignore", &settings["ignore"])?)
}

/// A list of texts; a missing one is empty.
fn texts(field: &str, list: &Value) -> Result<Vec<String>, String> {
    if list.is_null() {
        return Ok(Vec::new());
    }
    let texts = list.as_array().and_then(|list| {
        let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<_>>>()
    });
    texts.ok_or_else(|| format!("has `{field}` {list}, which is no list of names"))
}

/// How the weights of a group are stored; `format` is that of the block.
fn storage(name: &str, group: &Value, format: &Value) -> Result<Storage, String> {
    if !group.is_object() {
        return Err(format!("has the group {name} without settings of its own"));
    }
    // Files of older versions have the format on the block only.
    let own = group.get("format").filter(|format| !format.is_null());
    let format = own.unwrap_or(format);
    let weights = &group["weights"];
    match format.as_str() {
        Some(FORMAT) => {
            only_known_in(group, PACKED_GROUP)?;
            scheme(weights).map(Storage::Packed)
        }
        Some(format) if BYTES.contains(&format) => {
            only_known_in(group, BYTES_GROUP)?;
            let inputs_rounded = !is_off(&group["input_activations"]);
            scaling(weights, inputs_rounded).map(Storage::Scaled)
        }
        _ => Err(format!("has the format {format}")),
    }
}

/// The scheme of packed weights.
fn scheme(weights: &Value) -> Result<Scheme, String> {
    only_known_in(weights, PACKED)?;
    if !weights["type"].is_null() && weights["type"] != "int" {
        return Err(format!(
            "has packed weights of the type {}",
            weights["type"]
        ));
    }
    check_order(weights)?;
    let bits = weights["num_bits"].as_u64();
    let bits = bits.and_then(|bits| u8::try_from(bits).ok());
    let bits = bits.and_then(|bits| Bits::try_from(bits).ok());
    let bits = bits.ok_or_else(|| format!("has {} bits", weights["num_bits"]))?;
    let group = match extent(weights)? {
        Extent::Row => None,
        Extent::Group(size) => Some(size),
        Extent::Tensor | Extent::Block(..) => return Err(strange_extent(weights)),
    };
    Ok(Scheme {
        bits,
        group,
        symmetric: symmetric(weights)?,
    })
}

/// The settings of weights in bytes.
fn scaling(weights: &Value, inputs_rounded: bool) -> Result<Scaling, String> {
    only_known_in(weights, IN_BYTES)?;
    check_order(weights)?;
    // More bits than 8 have another dtype, fewer are not known to be stored so.
    if weights["num_bits"] != 8 {
        return Err(format!("has {} bits in a byte", weights["num_bits"]));
    }
    let code = match &weights["type"] {
        Value::Null => Code::Int8,
        kind if kind == "int" => Code::Int8,
        kind if kind == "float" => Code::E4m3,
        other => return Err(format!("has weights of the type {other}")),
    };
    let symmetric = symmetric(weights)?;
    if !symmetric && code == Code::E4m3 {
        return Err("has FP8 weights that are not `symmetric`".into());
    }
    Ok(Scaling {
        code,
        extent: extent(weights)?,
        symmetric,
        inputs_rounded,
    })
}

/// Refuses an order of columns that the tensors would have to tell. Under `weight` and `static`,
/// columns are stored in their own order; under `group` each carries a group index.
fn check_order(weights: &Value) -> Result<(), String> {
    let order = &weights["actorder"];
    if is_off(order) || matches!(order.as_str(), Some("weight" | "static")) {
        return Ok(());
    }
    Err(format!(
        "has the `actorder` {order}, of which the groups are not read"
    ))
}

/// The numbers that share a scale. Where no strategy is named, the size of the groups tells it; -1
/// and null are the sizes of scales per row.
fn extent(weights: &Value) -> Result<Extent, String> {
    let (strategy, size) = (&weights["strategy"], &weights["group_size"]);
    let named = if strategy.is_null() {
        Some("")
    } else {
        strategy.as_str()
    };
    let of_block = block(&weights["block_structure"]);
    if named != Some("block") && !is_off(&weights["block_structure"]) {
        return Err(strange_extent(weights));
    }
    match (named, size.as_i64()) {
        (Some("" | "group"), Some(size @ 1..)) => Ok(Extent::Group(size as usize)),
        (Some("channel"), None) if size.is_null() => Ok(Extent::Row),
        (Some("channel" | ""), Some(-1)) => Ok(Extent::Row),
        (Some("tensor" | ""), None) if size.is_null() => Ok(Extent::Tensor),
        (Some("block"), None) if size.is_null() => of_block.ok_or_else(|| strange_extent(weights)),
        _ => Err(strange_extent(weights)),
    }
}

fn strange_extent(weights: &Value) -> String {
    let (strategy, size) = (&weights["strategy"], &weights["group_size"]);
    let block = &weights["block_structure"];
    format!("has the strategy {strategy} with `group_size` {size} and `block_structure` {block}")
}

/// Whether there are no zero points, as is the default.
fn symmetric(weights: &Value) -> Result<bool, String> {
    match &weights["symmetric"] {
        Value::Null => Ok(true),
        Value::Bool(symmetric) => Ok(*symmetric),
        other => Err(format!("has `symmetric` {other}")),
    }
}
