//! What makes the copy of a checkpoint complete: `config.json`, and `model.safetensors` or all that the index names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::listing::is_safe;

/// Names the file of every tensor of a model that is in several.
pub const INDEX: &str = "model.safetensors.index.json";

/// The weights of a model that is in one file.
pub const SINGLE: &str = "model.safetensors";

const CONFIG: &str = "config.json";

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
    if !has(INDEX) {
        return (!has(SINGLE)).then(|| SINGLE.to_owned());
    }
    match shards(&directory.join(INDEX)) {
        Some(names) => names.into_iter().find(|name| !is_safe(name) || !has(name)),
        None => Some(format!("a readable {INDEX}")),
    }
}

/// The weight files that an index names; none if it cannot be read.
pub fn shards(index: &Path) -> Option<BTreeSet<String>> {
    let index: Index = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    Some(index.weight_map.into_values().collect())
}
