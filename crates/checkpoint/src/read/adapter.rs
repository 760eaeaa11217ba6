//! The correction of rounded weights: a PEFT adapter in a folder that `config.json` names.
//!
//! ```text
//! W = Q + s · B · A       s = α / r, or α / √r with `use_rslora`
//! ```
//!
//! A folder that nothing names is the user's own, and is not read.

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

/// The settings of an adapter that change what it computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The rank of all its pairs.
    pub rank: usize,
    /// s: what the product of a pair is multiplied by; none where that is 1.
    pub scale: Option<f32>,
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
        if !json["bias"].is_null() && json["bias"] != "none" {
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
        let by = match &json["use_rslora"] {
            Value::Bool(true) => (rank as f64).sqrt(),
            Value::Bool(false) | Value::Null => rank as f64,
            other => return Err(wrong(format!("has `use_rslora` {other}"))),
        };
        let scale = (alpha / by) as f32;
        Ok(Self {
            rank: rank as usize,
            scale: Some(scale).filter(|scale| scale.to_bits() != 1.0_f32.to_bits()),
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
        None => earlier(root),
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

/// The folder of the correction in an output of this program from before `config.json` named it. Of such an
/// adapter, the model is the folder around it.
fn earlier(root: &Path) -> Result<Option<&'static str>> {
    let Ok(record) = read_json(&root.join(record::FILE)) else {
        return Ok(None);
    };
    match read_json(&root.join(FOLDER).join(SETTINGS)) {
        Ok(settings) => Ok((settings["base_model_name_or_path"] == "..").then_some(FOLDER)),
        // A hub client of those days left it behind.
        Err(_) if tells_of_correction(&record) => {
            let problem = format!(
                "this output was corrected, but {FOLDER}/{SETTINGS} is not there; the model is not complete without it"
            );
            Err(Error::damaged(root.join(record::FILE), problem))
        }
        Err(_) => Ok(None),
    }
}

/// Whether a record of those days has steps with a correction.
fn tells_of_correction(record: &Value) -> bool {
    let steps = record["plan"]["steps"].as_array();
    let corrects = |step: &Value| step["scheme"].is_object() && step["rank"].as_u64() > Some(0);
    steps.is_some_and(|steps| steps.iter().any(corrects))
}

/// The weights in a correction's folder, and what they are multiplied by; `index` is the file's.
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
    /// The factor that a tensor's numbers are multiplied by when they are read: the pairs of an adapter may have a
    /// scale.
    pub(crate) fn scale_of(&self, name: &str) -> Option<f32> {
        let up = name.starts_with(names::ADAPTER) && name.ends_with(".lora_B.weight");
        self.adapter.filter(|_| up)?.scale
    }

    /// Refuses a correction of another rank than its settings say, by which it is scaled, or without any.
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
