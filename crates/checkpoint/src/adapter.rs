//! The correction of rounded weights: a PEFT adapter in a folder that `config.json` names.
//!
//! ```text
//! W = Q + s · B · A       s = α / r, or α / √r with `use_rslora`
//! ```
//!
//! A folder that nothing names is the user's own, and is not read.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{
    Checkpoint, Config, Error, Layout, Result,
    directory::{plain_name, read_json},
    record,
    settings::only_known,
};

/// The field of `config.json` with the folder's name; loaders that do not know it keep it.
pub const FIELD: &str = "compress_adapter";

/// The folder of an output's correction.
pub const FOLDER: &str = "adapter";

/// Its weights, from the output.
pub const OWN_WEIGHTS: &str = "adapter/adapter_model.safetensors";

/// The weights, from the folder.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// The settings, from the folder.
pub const SETTINGS: &str = "adapter_config.json";

/// What the name of every tensor of an adapter begins with.
pub const PREFIX: &str = "base_model.model.";

/// The settings that are read.
const READ: &[&str] = &["peft_type", "r", "lora_alpha", "use_rslora", "bias"];

/// Those that change nothing for a finished adapter: which modules it has, its tensors say.
const FREE: &[&str] = &[
    "task_type",
    "base_model_name_or_path",
    "revision",
    "target_modules",
    "exclude_modules",
    "lora_dropout",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
];

/// What an adapter's settings say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The rank of all its pairs.
    pub rank: usize,
    /// s: what the product of a pair is multiplied by.
    pub scale: f32,
}

impl Adapter {
    /// Understands an `adapter_config.json`.
    pub fn parse(path: &Path) -> Result<Self> {
        let wrong = |problem: String| Error::damaged(path, format!("this adapter {problem}"));
        let json = read_json(path)?;
        let Some(settings) = json.as_object() else {
            return Err(wrong("is no JSON object".into()));
        };
        only_known(&without_plain_start(settings), [READ, FREE]).map_err(wrong)?;
        if json["peft_type"] != "LORA" {
            return Err(wrong(format!(
                "has the type {}, not LORA",
                json["peft_type"]
            )));
        }
        if !matches!(json["bias"].as_str(), None | Some("none")) {
            return Err(wrong(format!("has the `bias` {}, not none", json["bias"])));
        }
        let rank = json["r"]
            .as_u64()
            .filter(|rank| (1..=1 << 24).contains(rank));
        let rank = rank.ok_or_else(|| wrong(format!("has `r` {}, no rank", json["r"])))?;
        let alpha = json["lora_alpha"]
            .as_f64()
            .filter(|alpha| alpha.is_finite());
        let alpha = alpha.ok_or_else(|| {
            wrong(format!(
                "has `lora_alpha` {}, no number",
                json["lora_alpha"]
            ))
        })?;
        let by = match json["use_rslora"].as_bool() {
            Some(true) => (rank as f64).sqrt(),
            _ => rank as f64,
        };
        Ok(Self {
            rank: rank as usize,
            scale: (alpha / by) as f32,
        })
    }
}

/// The settings without the one that says how training began, where that has left the weights under the
/// adapter as they were.
fn without_plain_start(settings: &Map<String, Value>) -> Map<String, Value> {
    let plain = |value: &Value| value.is_boolean() || value == "gaussian";
    let mut settings = settings.clone();
    settings.retain(|name, value| name != "init_lora_weights" || !plain(value));
    settings
}

/// The folder of the correction of the model in `root`, where there is one.
pub fn folder<'a>(root: &Path, config: &'a Config) -> Result<Option<&'a str>> {
    let path = root.join("config.json");
    match config.json.get(FIELD).filter(|value| !value.is_null()) {
        None => Ok(is_of_earlier_output(root).then_some(FOLDER)),
        Some(Value::String(name)) => {
            let name = plain_name(&path, "adapter", name)?;
            for file in [SETTINGS, WEIGHTS] {
                if !root.join(name).join(file).is_file() {
                    let problem = format!(
                        "`{FIELD}` names a correction, but {name}/{file} is not there; the model is not complete without it"
                    );
                    return Err(Error::damaged(path, problem));
                }
            }
            Ok(Some(name))
        }
        Some(other) => {
            let problem = format!("`{FIELD}` is {other}, not the name of a folder");
            Err(Error::damaged(path, problem))
        }
    }
}

/// Whether a folder is an output of this program from before `config.json` named the correction. Of such
/// an adapter, the model is the folder around it.
fn is_of_earlier_output(root: &Path) -> bool {
    let settings = read_json(&root.join(FOLDER).join(SETTINGS));
    let is_ours = |settings: Value| settings["base_model_name_or_path"] == "..";
    root.join(record::FILE).is_file() && settings.is_ok_and(is_ours)
}

impl Checkpoint {
    /// What the numbers of a tensor are multiplied by when they are read: the pairs of an adapter have a scale.
    pub(crate) fn scale_of(&self, name: &str) -> f32 {
        let up = name.starts_with(PREFIX) && name.ends_with(".lora_B.weight");
        self.adapter
            .filter(|_| up)
            .map_or(1.0, |adapter| adapter.scale)
    }
}

/// `adapter_config.json` of an output's corrections.
pub fn config(layout: &Layout) -> Option<Value> {
    let corrected: Vec<_> = layout.corrections().collect();
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
