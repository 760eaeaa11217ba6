//! The config and the modelling file by which transformers and vLLM load low-rank weights.

use compress_core::{Format, Site};
use minijinja::{Environment, context};
use serde_json::{Map, Value, json};

use crate::{Config, Error, Layout, Result, names, read::adapter, write::description};

/// The name of the modelling file beside the weights.
pub const FILE: &str = "modeling_lowrank.py";

const TEMPLATE: &str = include_str!("modeling_lowrank.py.jinja");

/// The modelling file for a config's architecture.
pub fn source(config: &Config) -> Result<String> {
    let class = config.architecture.class();
    let model_type = config.architecture.model_type();
    Environment::new()
        .render_str(TEMPLATE, context! { class, model_type })
        .map_err(|e| Error::damaged(FILE, e.to_string()))
}

/// The `config.json` of an output: the source's, plus what its layout adds.
pub fn config(config: &Config, layout: &Layout, format: Option<Format>) -> Value {
    let mut json = config.json.clone();
    let ranks: Map<String, Value> = layout
        .ranks()
        .map(|(site, rank): (Site, _)| (names::module(site), rank.into()))
        .collect();
    for field in ["lowrank", "auto_map", "quantization_config", adapter::FIELD] {
        json.remove(field);
    }
    if layout.corrections().next().is_some() {
        json.insert(adapter::FIELD.into(), adapter::FOLDER.into());
    }
    if let Some(block) = description::quantization(layout) {
        json.insert("quantization_config".into(), block);
    }
    let class = config.architecture.class();
    let model_type = config.architecture.model_type();
    if ranks.is_empty() {
        json.insert("model_type".into(), model_type.into());
        json.insert(
            "architectures".into(),
            json!([format!("{class}ForCausalLM")]),
        );
    } else {
        let module = FILE.trim_end_matches(".py");
        json.insert("model_type".into(), format!("lowrank_{model_type}").into());
        json.insert(
            "architectures".into(),
            json!([format!("LowRank{class}ForCausalLM")]),
        );
        json.insert("lowrank".into(), ranks.into());
        json.insert(
            "auto_map".into(),
            json!({
                "AutoConfig": format!("{module}.LowRank{class}Config"),
                "AutoModel": format!("{module}.LowRank{class}Model"),
                "AutoModelForCausalLM": format!("{module}.LowRank{class}ForCausalLM"),
            }),
        );
    }
    if let Some(format) = format {
        let field = if json.contains_key("dtype") {
            "dtype"
        } else {
            "torch_dtype"
        };
        json.insert(field.into(), format.torch_name().into());
    }
    json.into()
}
