//! The files of a model on the hub, and the selection of those to download.
//!
//! Downloaded are the safetensors, the adapter that belongs to them, and at the top of the
//! repository the config, the tokenizer, the chat template, the card and the licence; further chat
//! templates lie in a folder. Weights in other formats stay on the hub, as do all other files in
//! folders.

use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::{INDEX, SINGLE, adapter, earlier_adapter, shards};
use crate::{
    Error, ModelId,
    names::{is_plain, is_safe},
};

/// Endings of weights in Python's pickle format, which is not read: loading it can run any code.
const PICKLES: [&str; 4] = ["bin", "pt", "pth", "ckpt"];

/// The commit and files of a model. All names have been checked to stay inside a directory.
pub struct Listing {
    /// The commit of the revision that was asked for.
    pub commit: String,
    files: Vec<String>,
}

/// The part of the answer that is read.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file of the model.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    /// Parses the answer to `/api/models/org/name/revision/main`; `url` is for errors. Fails where
    /// it is not such an answer, or a name would leave the model's folder.
    pub fn parse(json: &[u8], url: &str, id: &ModelId) -> Result<Self, Error> {
        let bad = |problem: String| Error::BadAnswer {
            url: url.to_owned(),
            problem,
        };
        let answer: Answer = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        // The commit becomes the name of a folder in the cache.
        if !is_plain(&answer.sha) {
            return Err(bad(format!("`{}` is not a commit", answer.sha)));
        }
        let files: Vec<_> = answer
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .collect();
        match files.iter().find(|name| !is_safe(name)) {
            Some(name) => Err(Error::UnsafeName {
                id: id.to_string(),
                name: name.clone(),
            }),
            None => Ok(Self {
                commit: answer.sha,
                files,
            }),
        }
    }

    /// Whether the model has this file.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    /// All GGUF files, in folders too.
    pub fn gguf(&self) -> Vec<String> {
        self.ending_in(&["gguf"])
    }

    /// Fails if the model has no safetensors; the error names its weights in other formats.
    pub fn check_weights(&self, id: &ModelId) -> Result<(), Error> {
        if self.has(INDEX) || self.has(SINGLE) {
            return Ok(());
        }
        let id = id.to_string();
        let (gguf, pickles) = (self.gguf(), self.ending_in(&PICKLES));
        // GGUF first: it is read here, if the id names the file.
        Err(if !gguf.is_empty() {
            Error::OnlyGguf { id, files: gguf }
        } else if !pickles.is_empty() {
            Error::OnlyPickle { id, files: pickles }
        } else {
            Error::NoWeights { id }
        })
    }

    /// The files to download other than the weights.
    pub fn small_files(&self) -> impl Iterator<Item = &str> {
        self.files
            .iter()
            .map(String::as_str)
            .filter(|name| is_small(name))
    }

    /// The weight files to download: the shards of the index, if there is one, which must have been
    /// downloaded to `snapshot`. None if the index cannot be read.
    pub fn weights(&self, snapshot: &Path) -> Option<Vec<String>> {
        if !self.has(INDEX) {
            return Some(vec![SINGLE.to_owned()]);
        }
        let named = shards(&snapshot.join(INDEX))?;
        // A shard that the hub does not have is reported as missing in the end.
        Some(named.into_iter().filter(|name| self.has(name)).collect())
    }

    /// The files of the model's adapter: of the one that `config.json` names, which must have been
    /// downloaded to `snapshot`, or of one in an output of an earlier version.
    pub fn adapter(&self, snapshot: &Path) -> Vec<String> {
        let named = adapter(snapshot);
        if named.is_empty() {
            earlier_adapter(|name| self.has(name))
        } else {
            named
        }
    }

    /// The files with one of these endings.
    fn ending_in(&self, endings: &[&str]) -> Vec<String> {
        self.files
            .iter()
            .filter(|name| endings.contains(&ending(name).as_str()))
            .cloned()
            .collect()
    }
}

/// The folder of a tokenizer's further chat templates.
const TEMPLATES: &str = "additional_chat_templates";
/// How the names of the card and of licences begin, their notices and terms of use included, which
/// some licences want to be passed on.
const DOCUMENTS: [&str; 6] = [
    "README",
    "LICENSE",
    "LICENCE",
    "COPYING",
    "NOTICE",
    "USE_POLICY",
];

/// Whether a file is config, tokenizer, template, card or licence at the top of the repository, or a
/// template in their folder.
fn is_small(name: &str) -> bool {
    if let Some((folder, _)) = name.rsplit_once('/') {
        return folder == TEMPLATES && ending(name) == "jinja";
    }
    let upper = name.to_ascii_uppercase();
    let document = DOCUMENTS.iter().any(|start| upper.starts_with(start));
    matches!(ending(name).as_str(), "json" | "txt" | "jinja")
        || name == "tokenizer.model"
        || document
}

/// The extension in lower case; empty where there is none.
fn ending(name: &str) -> String {
    Path::new(name)
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_if_it_stays_inside() {
        for name in ["config.json", "a/b/c.json", "..a", "a..", "Ünïcode name"] {
            assert!(is_safe(name), "{name}");
        }
        for name in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "./a",
            "a//b",
            "a/",
            "a\0",
            "a\n",
        ] {
            assert!(!is_safe(name), "{name}");
        }
    }

    #[test]
    fn only_what_a_checkpoint_is_read_from_is_wanted() {
        let wanted = [
            "config.json",
            "merges.txt",
            "tokenizer.model",
            "chat_template.jinja",
            "README.md",
            "LICENSE",
            "Notice.txt",
            "USE_POLICY.md",
            "additional_chat_templates/tool_use.jinja",
        ];
        assert!(wanted.iter().all(|name| is_small(name)));
        let others = [
            "model.onnx",
            "onnx/config.json",
            "pytorch_model.bin",
            ".gitattributes",
            "other.model",
            "additional_chat_templates/model.bin",
            "old/additional_chat_templates/x.jinja",
            "old/LICENSE",
        ];
        assert!(!others.iter().any(|name| is_small(name)));
    }
}
