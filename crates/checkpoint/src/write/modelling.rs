//! `config.json` of an output, and the modelling file with which transformers and vLLM load
//! factors.
//!
//! An output with low-rank pairs or mixtures of atoms has a `model_type` and classes of its own, defined in
//! `modeling_lowrank.py` beside the weights and found through `auto_map`; it needs
//! `trust_remote_code`. Any other output loads with the stock classes.

use std::collections::BTreeMap;

use compress_core::{Form, Format, Site};
use minijinja::{Environment, context};
use serde_json::{Map, Value, json};

use crate::{
    Config, Error, Layout, Result,
    huggingface::config::{CAUSAL, DECODER, rotary},
    names,
    read::adapter,
    write::description,
};

/// The name of the modelling file beside the weights.
pub const FILE: &str = "modeling_lowrank.py";

/// The modelling file, with the class and `model_type` of the family left open.
const TEMPLATE: &str = include_str!("modeling_lowrank.py.jinja");

/// The modelling file for a family: subclasses of its transformers classes in which listed linear
/// layers are pairs.
pub fn source(config: &Config, layout: &Layout) -> Result<String> {
    let class = config.architecture.class();
    let model_type = config.architecture.model_type();
    let shared = layout.mixtures().next().is_some();
    Environment::new()
        .render_str(TEMPLATE, context! { class, model_type, shared })
        .map_err(|e| Error::damaged(FILE, e.to_string()))
}

/// Refuses forms of weights that no client would load into a model of its class.
pub fn check_class(config: &Config, forms: &BTreeMap<Site, Form>) -> Result<()> {
    if config.class == CAUSAL {
        return Ok(());
    }
    let has = |is: fn(&Form) -> bool| forms.values().any(is);
    let what = if config.class != DECODER && has(|form| form.is_factored()) {
        "factors, since their modelling file has no such class; add --dense, or round its weights by lorc --rank 0"
    } else if has(|form| form.correction() > 0) {
        "corrections, since PEFT takes the adapter for one of a model that predicts tokens; add --rank 0"
    } else {
        return Ok(());
    };
    let class = format!("{}{}", config.architecture.class(), config.class);
    Err(Error::Class { class, what })
}

/// The `config.json` of an output: the source's fields, less what described its own forms, plus
/// what describes the new ones. `format` is the new dtype, if it changes.
pub fn config(config: &Config, layout: &Layout, format: Option<Format>) -> Value {
    let mut json = config.json.clone();
    // The source may be an output itself: its ranks, scheme and adapter do not describe this one.
    for field in ["lowrank", "mixtures", "quantization_config", adapter::FIELD] {
        json.remove(field);
    }
    // Where the class is not transformers' own, the source's code is copied, and this leads to it.
    if !config.has_own_class() {
        json.remove("auto_map");
    }
    if layout.corrections().next().is_some() {
        json.insert(adapter::FIELD.into(), adapter::FOLDER.into());
    }
    if let Some(block) = description::quantization(layout) {
        json.insert("quantization_config".into(), block);
    }
    describe_classes(&mut json, config, layout);
    rotary::repeat_for_older_readers(&mut json);
    if let Some(format) = format {
        // transformers 5 renamed `torch_dtype` to `dtype`, and reads both.
        let field = if json.contains_key("dtype") {
            "dtype"
        } else {
            "torch_dtype"
        };
        json.insert(field.into(), format.torch_name().into());
    }
    json.into()
}

/// Names the classes that load an output, and the layers that these have factors for.
fn describe_classes(json: &mut Map<String, Value>, config: &Config, layout: &Layout) {
    let class = config.architecture.class();
    let model_type = config.architecture.model_type();
    // Also where the source had pairs and they were multiplied out: then the stock classes load it
    // again.
    if !layout.is_factored() {
        let architecture = format!("{class}{}", config.class);
        json.insert("model_type".into(), model_type.into());
        json.insert("architectures".into(), json!([architecture]));
        return;
    }
    let module = FILE.trim_end_matches(".py");
    let architecture = format!("LowRank{class}{}", config.class);
    json.insert("model_type".into(), format!("lowrank_{model_type}").into());
    json.insert("architectures".into(), json!([architecture]));
    let ranks = layout.ranks();
    let ranks = ranks.map(|(site, rank)| (names::module(site), rank.into()));
    let ranks: Map<String, Value> = ranks.collect();
    json.insert("lowrank".into(), ranks.into());
    let mixtures = layout.mixtures().map(|(site, atoms, residual)| {
        let mixture = json!({
            "dictionary": names::dictionary_key(atoms.group),
            "atoms": atoms.atoms,
            "residual": residual,
        });
        (names::module(site), mixture)
    });
    let mixtures: Map<String, Value> = mixtures.collect();
    if !mixtures.is_empty() {
        json.insert("mixtures".into(), mixtures.into());
    }
    json.insert(
        "auto_map".into(),
        json!({
            "AutoConfig": format!("{module}.LowRank{class}Config"),
            "AutoModel": format!("{module}.LowRank{class}Model"),
            "AutoModelForCausalLM": format!("{module}.LowRank{class}ForCausalLM"),
        }),
    );
}
