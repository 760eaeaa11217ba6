//! `vocab.json` with `merges.txt`, of which transformers builds the tokenizers of Qwen2 and Qwen3.

use std::{collections::HashSet, fs, path::Path};

use compress_gguf::parts;
use tokenizers::{Tokenizer, models::bpe::Vocab};

use super::refused;
use crate::{
    Error, Result,
    read::{directory, mistaken},
};

/// Reads both files of a directory, without the tokens that other files add.
pub fn open(root: &Path) -> Result<Tokenizer> {
    let path = root.join("vocab.json");
    let json = directory::read_json(&path)?;
    let json = json
        .as_object()
        .ok_or_else(|| refused(&path)("not tokens with their ids"))?;
    let mut ids = Vocab::default();
    for (token, id) in json {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| refused(&path)(format!("the id of `{token}` is no id")))?;
        ids.insert(token.clone(), id);
    }
    // Two tokens of one id could not be told apart when they are decoded.
    let distinct: HashSet<_> = ids.values().collect();
    if distinct.len() != ids.len() {
        return Err(refused(&path)("two tokens have one id"));
    }
    let path = root.join("merges.txt");
    if !path.is_file() {
        return Err(refused(&path)(
            "there is none, but vocab.json needs its rules; copy it from where the model is from",
        ));
    }
    let text = fs::read(&path).map_err(Error::io(&path))?;
    mistaken::check_contents(&path, &text)?;
    let text = String::from_utf8(text).map_err(refused(&path))?;
    parts::qwen2(ids, rules(&text)).map_err(refused(&path))
}

/// The rules, one a line, behind a first line that may state a version. Of equal rules the first
/// counts.
fn rules(text: &str) -> impl Iterator<Item = &str> {
    let mut seen = HashSet::new();
    let lines = text.lines().map(str::trim).enumerate();
    let rules = lines.filter(|(line, rule)| *line > 0 || !rule.starts_with("#version:"));
    rules
        .map(|(_, rule)| rule)
        .filter(move |rule| !rule.is_empty() && seen.insert(*rule))
}
