//! Completeness of a downloaded checkpoint: `config.json`, the adapter that it names, and
//! `model.safetensors` or every shard of the index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::names::is_safe;

/// The index of a sharded model: the shard of each tensor.
pub const INDEX: &str = "model.safetensors.index.json";

/// The weights of a model in one file.
pub const SINGLE: &str = "model.safetensors";

/// The file that every checkpoint has.
const CONFIG: &str = "config.json";

/// The field of `config.json` with the folder of the corrections of a rounded model.
const ADAPTER: &str = "compress_adapter";

/// The files in that folder.
const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The folder in outputs of earlier versions, whose `config.json` does not name it.
const EARLIER: &str = "adapter";

/// The file by which outputs of this program are recognised.
const RECORD: &str = "compression.json";

/// The part of the index that is read.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The first missing file of a checkpoint in `directory`; none where it is complete. Reads the
/// config and the index, no weights.
pub fn lacks(directory: &Path) -> Option<String> {
    let has = |name: &str| directory.join(name).is_file();
    if !has(CONFIG) {
        return Some(CONFIG.to_owned());
    }
    // Names in the index are input: one that leaves the directory counts as missing.
    let unfit = |name: &String| !is_safe(name) || !has(name);
    if let Some(missing) = adapter(directory).into_iter().find(unfit) {
        return Some(missing);
    }
    // Without an index the model must be in one file.
    if !has(INDEX) {
        return (!has(SINGLE)).then(|| SINGLE.to_owned());
    }
    match shards(&directory.join(INDEX)) {
        Some(names) => names.into_iter().find(unfit),
        None => Some(format!("a readable {INDEX}")),
    }
}

/// The files of the adapter that the `config.json` in `directory` names; empty where it names none
/// or cannot be read.
pub fn adapter(directory: &Path) -> Vec<String> {
    let text = fs::read(directory.join(CONFIG)).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let folder = config.get(ADAPTER).and_then(serde_json::Value::as_str);
    folder.map_or_else(Vec::new, files_of)
}

/// The files of an adapter in the output of an earlier version, recognised by its record; `has`
/// tells whether the model has a file.
pub fn earlier_adapter(has: impl Fn(&str) -> bool) -> Vec<String> {
    let files = files_of(EARLIER);
    let is_output = has(RECORD) && files.iter().all(|name| has(name));
    if is_output { files } else { Vec::new() }
}

/// The files of an adapter folder.
fn files_of(folder: &str) -> Vec<String> {
    ADAPTER_FILES.map(|file| format!("{folder}/{file}")).into()
}

/// The shards that an index names, without duplicates; none if it cannot be read.
pub fn shards(index: &Path) -> Option<BTreeSet<String>> {
    let index: Index = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    Some(index.weight_map.into_values().collect())
}
