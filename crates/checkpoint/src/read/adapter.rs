//! Corrections of rounded weights: a PEFT adapter in a folder that `config.json` names.
//!
//! ```text
//! W = Q + s · B · A       s = α / r, or α / √r with `use_rslora`
//! ```
//!
//! with Q the rounded weight (out × in), B out × r, A r × in, α the setting `lora_alpha`. B is
//! multiplied by s when it is read. An adapter that `config.json` does not name belongs to the user
//! and is not read. Settings that would change the result in another way (`DoRA`, rank patterns,
//! biases) are refused by name.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    Checkpoint, Config, Error, Result,
    huggingface::settings::only_known,
    names,
    read::{
        directory::{Contents, header, plain_name, read_json},
        weight_file::WeightFile,
    },
    record,
};

/// The field of `config.json` with the folder's name. transformers and vLLM keep fields that they
/// do not know.
pub const FIELD: &str = "compress_adapter";

/// The folder of the corrections in outputs of this program.
pub const FOLDER: &str = "adapter";

/// The adapter's weights, relative to the output.
pub const OWN_WEIGHTS: &str = "adapter/adapter_model.safetensors";

/// The adapter's weights, relative to its folder.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// The adapter's settings, relative to its folder.
pub const SETTINGS: &str = "adapter_config.json";

/// Settings that are read.
const READ: &[&str] = &["peft_type", "r", "lora_alpha", "use_rslora", "bias"];

/// Settings without effect on a finished adapter. Which modules it covers shows in its tensors;
/// dropout acts in training only.
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

/// The settings of an adapter that matter for W.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The rank r of all its pairs.
    pub rank: usize,
    /// s, the factor of the product B · A; none where it is 1, so that such tensors are copied byte
    /// by byte.
    pub scale: Option<f32>,
}

impl Adapter {
    /// Reads an `adapter_config.json`. Fails where it is not of the type `LORA`, has biases, lacks
    /// `r` or `lora_alpha`, or has a setting switched on that is not known.
    pub fn parse(path: &Path) -> Result<Self> {
        let wrong = |problem: String| Error::damaged(path, format!("this adapter {problem}"));
        let json = read_json(path)?;
        let Some(settings) = json.as_object() else {
            return Err(wrong("is no JSON object".into()));
        };
        // A setting of a newer PEFT that is switched on could change W.
        only_known(&without_plain_start(settings), [READ, FREE]).map_err(wrong)?;
        if json["peft_type"] != "LORA" {
            return Err(wrong(format!(
                "has the type {}, not LORA",
                json["peft_type"]
            )));
        }
        if !json["bias"].is_null() && json["bias"] != "none" {
            return Err(wrong(format!("has the `bias` {}, not none", json["bias"])));
        }
        // The bound keeps products of sizes from overflowing.
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
        // Rank-stabilised adapters divide by √r.
        let by = match &json["use_rslora"] {
            Value::Bool(true) => (rank as f64).sqrt(),
            Value::Bool(false) | Value::Null => rank as f64,
            other => return Err(wrong(format!("has `use_rslora` {other}"))),
        };
        let scale = (alpha / by) as f32;
        if !scale.is_finite() {
            return Err(wrong(format!("has `lora_alpha` {alpha}, too large")));
        }
        Ok(Self {
            rank: rank as usize,
            scale: Some(scale).filter(|scale| scale.to_bits() != 1.0_f32.to_bits()),
        })
    }
}

/// The settings without `init_lora_weights`, where its value left the base weights as they were: a
/// boolean or `gaussian`. Other values (`pissa`, `olora`, `loftq`) changed the weights under the
/// adapter, and are refused as unknown settings.
fn without_plain_start(settings: &Map<String, Value>) -> Map<String, Value> {
    let plain = |value: &Value| value.is_boolean() || value == "gaussian";
    let mut settings = settings.clone();
    settings.retain(|name, value| name != "init_lora_weights" || !plain(value));
    settings
}

/// The adapter's folder for the model in `root`, if the model has one. Fails where `config.json`
/// names a folder that lacks a file or lies elsewhere, since the model would be wrong without its
/// corrections.
pub fn folder<'a>(root: &Path, config: &'a Config) -> Result<Option<&'a str>> {
    let path = root.join("config.json");
    match config.json.get(FIELD).filter(|value| !value.is_null()) {
        None => earlier(root),
        Some(Value::String(name)) => {
            let name = plain_name(&path, "adapter", name)?;
            // Without the adapter the model would load, and be worse than what was measured.
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

/// The adapter of an output from before `config.json` named it: a record lies beside the weights,
/// and the adapter's base model is `..`. Any other folder of that name belongs to the user.
fn earlier(root: &Path) -> Result<Option<&'static str>> {
    let Ok(record) = read_json(&root.join(record::FILE)) else {
        return Ok(None);
    };
    match read_json(&root.join(FOLDER).join(SETTINGS)) {
        Ok(settings) => Ok((settings["base_model_name_or_path"] == "..").then_some(FOLDER)),
        // Earlier versions of the hub client did not download the folder.
        Err(_) if tells_of_correction(&record) => {
            let problem = format!(
                "this output was corrected, but {FOLDER}/{SETTINGS} is not there; the model is not complete without it"
            );
            Err(Error::damaged(root.join(record::FILE), problem))
        }
        Err(_) => Ok(None),
    }
}

/// Whether the plan in a record has a rounding step with a correction of rank above 0.
fn tells_of_correction(record: &Value) -> bool {
    let steps = record["plan"]["steps"].as_array();
    let corrects = |step: &Value| step["scheme"].is_object() && step["rank"].as_u64() > Some(0);
    steps.is_some_and(|steps| steps.iter().any(corrects))
}

/// Opens the adapter in a folder: its settings, its weight file and its tensors; `index` is the
/// file's place among the checkpoint's files. Fails where a tensor does not have the prefix of an
/// adapter.
pub fn open(folder: &Path, index: usize) -> Result<(Adapter, Contents)> {
    let settings = Adapter::parse(&folder.join(SETTINGS))?;
    let file = WeightFile::open(folder.join(WEIGHTS))?;
    let tensors = header(&file, index)?;
    match tensors
        .keys()
        .find(|name| !name.starts_with(names::ADAPTER))
    {
        None => Ok((settings, (vec![file], tensors))),
        Some(name) => {
            let problem = format!("tensor `{name}` is none of an adapter's");
            Err(Error::damaged(&file.path, problem))
        }
    }
}

impl Checkpoint {
    /// The factor that a tensor's numbers are multiplied by when they are read: s for an adapter's
    /// B, so that W = Q + B · A afterwards; none elsewhere.
    pub(crate) fn scale_of(&self, name: &str) -> Option<f32> {
        let up = name.starts_with(names::ADAPTER) && name.ends_with(".lora_B.weight");
        self.adapter.filter(|_| up)?.scale
    }

    /// Checks a correction's rank against `r` in the settings, since s was computed from that; rank
    /// 0 means no correction.
    pub(crate) fn expect_rank(&self, module: &str, rank: usize) -> Result<()> {
        let said = self.adapter.map(|adapter| adapter.rank);
        if rank == 0 || said == Some(rank) {
            return Ok(());
        }
        let said = said.map_or("there are none".into(), |said| {
            format!("they say `r` {said}")
        });
        let problem =
            format!("the correction of `{module}` has rank {rank}, but of its settings {said}");
        Err(Error::damaged(self.path(), problem))
    }
}
