//! The files that make a copy of a checkpoint complete: `config.json`, the adapter that it names if it names one, and
//! `model.safetensors` or all that the index names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::names::is_safe;

/// Names the file of every tensor of a model that is in several.
pub const INDEX: &str = "model.safetensors.index.json";

/// The weights of a model that is in one file.
pub const SINGLE: &str = "model.safetensors";

const CONFIG: &str = "config.json";

/// The field of `config.json` that names the folder of a correction.
const ADAPTER: &str = "compress_adapter";

/// The files of that folder.
const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The folder of the correction in outputs of earlier versions, whose `config.json` does not name it.
const EARLIER: &str = "adapter";

/// The file by which such an output is recognised.
const RECORD: &str = "compression.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The first file that `directory` lacks to be complete.
pub fn lacks(directory: &Path) -> Option<String> {
    let has = |name: &str| directory.join(name).is_file();
    if !has(CONFIG) {
        return Some(CONFIG.to_owned());
    }
    let unfit = |name: &String| !is_safe(name) || !has(name);
    if let Some(missing) = adapter(directory).into_iter().find(unfit) {
        return Some(missing);
    }
    if !has(INDEX) {
        return (!has(SINGLE)).then(|| SINGLE.to_owned());
    }
    match shards(&directory.join(INDEX)) {
        Some(names) => names.into_iter().find(unfit),
        None => Some(format!("a readable {INDEX}")),
    }
}

/// The files of the adapter that the `config.json` in `directory` names; none where it names none.
pub fn adapter(directory: &Path) -> Vec<String> {
    let text = fs::read(directory.join(CONFIG)).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let folder = config.get(ADAPTER).and_then(serde_json::Value::as_str);
    folder.map_or_else(Vec::new, files_of)
}

/// The files of an adapter that belongs to the model although nothing names it.
pub fn earlier_adapter(has: impl Fn(&str) -> bool) -> Vec<String> {
    let files = files_of(EARLIER);
    let is_output = has(RECORD) && files.iter().all(|name| has(name));
    if is_output { files } else { Vec::new() }
}

fn files_of(folder: &str) -> Vec<String> {
    ADAPTER_FILES.map(|file| format!("{folder}/{file}")).into()
}

/// The weight files that an index names; none if it cannot be read.
pub fn shards(index: &Path) -> Option<BTreeSet<String>> {
    let index: Index = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    Some(index.weight_map.into_values().collect())
}
