//! Rounded weights as compressed-tensors has them: the block in `config.json`, and the adapter beside.
//!
//! Everything is one group with the target `Linear`, `format` repeated within it: loaders take it from
//! there. What stays whole is named in `ignore`. The corrections are a PEFT adapter of one rank, smaller
//! ones filled up with zeros, alpha = rank: clients that know one scale per adapter load it as well.

use std::{collections::BTreeMap, path::Path};

use compress_core::{Bits, Form, Scheme, Site};
use serde_json::{Map, Value, json};

use crate::{Error, Layout, Result};

/// The folder of the correction.
pub const ADAPTER: &str = "adapter";

/// The adapter's weight file, from the model's folder.
pub const ADAPTER_WEIGHTS: &str = "adapter/adapter_model.safetensors";

/// What the name of every tensor of an adapter begins with.
pub const ADAPTER_PREFIX: &str = "base_model.model.";

/// The name of the one format of packed codes.
const FORMAT: &str = "pack-quantized";

/// How a model's weights are rounded, from its `config.json`; none where they are not.
pub fn parse(json: &Map<String, Value>, path: &Path) -> Result<Option<Scheme>> {
    let Some(block) = json.get("quantization_config").filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let wrong = |problem: String| {
        let problem = format!(
            "`quantization_config` {problem}; only compressed-tensors' {FORMAT} with one group is supported"
        );
        Error::damaged(path, problem)
    };
    let method = &block["quant_method"];
    if method != "compressed-tensors" {
        return Err(wrong(format!("has the method {method}")));
    }
    let groups = block["config_groups"].as_object();
    let groups: Vec<&Value> = groups
        .map(|groups| groups.values().collect())
        .unwrap_or_default();
    let [group] = groups[..] else {
        return Err(wrong(format!("has {} groups", groups.len())));
    };
    let format = group.get("format").unwrap_or(&block["format"]);
    if format != FORMAT {
        return Err(wrong(format!("has the format {format}")));
    }
    let weights = &group["weights"];
    let bits = weights["num_bits"]
        .as_u64()
        .and_then(|bits| u8::try_from(bits).ok());
    let bits = bits.and_then(|bits| Bits::try_from(bits).ok());
    let bits = bits.ok_or_else(|| wrong(format!("has {} bits", weights["num_bits"])))?;
    let size = weights["group_size"].as_u64().map(|size| size as usize);
    let group = match weights["strategy"].as_str() {
        Some("channel") => None,
        Some("group") if size.is_some_and(|size| size > 0) => size,
        _ => return Err(wrong(format!("has the strategy {}", weights["strategy"]))),
    };
    Ok(Some(Scheme {
        bits,
        group,
        symmetric: weights["symmetric"].as_bool().unwrap_or(true),
    }))
}

/// Refuses forms that one block and one adapter cannot tell of: a second scheme, or a second rank.
pub fn check(forms: &BTreeMap<Site, Form>) -> Result<()> {
    let rounded = || {
        forms.iter().filter_map(|(site, form)| match *form {
            Form::Rounded { scheme, rank } => Some((*site, scheme, rank)),
            _ => None,
        })
    };
    let Some((other, scheme, _)) = rounded().next() else {
        return Ok(());
    };
    let rank = rounded().map(|(.., rank)| rank).find(|rank| *rank > 0);
    let alike = |its: usize| its == 0 || rank.is_none_or(|rank| rank == its);
    match rounded().find(|(_, its, its_rank)| *its != scheme || !alike(*its_rank)) {
        Some((site, ..)) => Err(Error::Mixed { site, other }),
        None => Ok(()),
    }
}

/// The block for an output with rounded weights.
pub fn config(layout: &Layout) -> Option<Value> {
    let scheme = layout.scheme()?;
    let mut ignore = vec!["lm_head".to_owned()];
    ignore.extend(layout.whole().map(Site::module));
    let pairs = layout.ranks().map(|(site, _)| site.module());
    ignore.extend(pairs.flat_map(|module| ["down", "up"].map(|part| format!("{module}.{part}"))));
    let strategy = if scheme.group.is_some() {
        "group"
    } else {
        "channel"
    };
    Some(json!({
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "ignore": ignore,
        "config_groups": { "group_0": {
            "targets": ["Linear"],
            "format": FORMAT,
            "weights": {
                "num_bits": scheme.bits.count(),
                "type": "int",
                "symmetric": scheme.symmetric,
                "strategy": strategy,
                "group_size": scheme.group,
                "dynamic": false,
            },
        } },
    }))
}

/// `adapter_config.json` of the corrections.
pub fn adapter_config(layout: &Layout) -> Option<Value> {
    let corrected: Vec<(Site, usize)> = layout.corrections().collect();
    let (_, rank) = corrected.first()?;
    let modules: Vec<String> = corrected.iter().map(|(site, _)| site.module()).collect();
    Some(json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "..",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        "init_lora_weights": true,
        "use_rslora": false,
        "use_dora": false,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "modules_to_save": null,
        "layers_to_transform": null,
    }))
}
