//! The files of a model on the hub, and those of them that a checkpoint is read from.
//!
//! Wanted are the weights as safetensors, the adapter that belongs to them, and at the repository's root the configuration, the tokenizer, the chat
//! template, the card and the licence. Weights in other formats stay on the hub.

use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::{INDEX, SINGLE, adapter, earlier_adapter, shards};
use crate::{
    Error, ModelId,
    names::{is_plain, is_safe},
};

const PICKLES: [&str; 4] = ["bin", "pt", "pth", "ckpt"];

/// The hub's list of a model's files; all names are safe to join to a directory.
pub struct Listing {
    /// The commit that the revision stands for.
    pub commit: String,
    files: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    /// Parses the answer to `/api/models/org/name/revision/main`, which came from `url`.
    pub fn parse(json: &[u8], url: &str, id: &ModelId) -> Result<Self, Error> {
        let bad = |problem: String| Error::BadAnswer {
            url: url.to_owned(),
            problem,
        };
        let answer: Answer = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
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

    /// The GGUF files, wherever they lie.
    pub fn gguf(&self) -> Vec<String> {
        self.ending_in(&["gguf"])
    }

    /// Fails if there are no weights that can be read, and says which there are instead.
    pub fn check_weights(&self, id: &ModelId) -> Result<(), Error> {
        if self.has(INDEX) || self.has(SINGLE) {
            return Ok(());
        }
        let id = id.to_string();
        let (gguf, pickles) = (self.gguf(), self.ending_in(&PICKLES));
        Err(if !gguf.is_empty() {
            Error::OnlyGguf { id, files: gguf }
        } else if !pickles.is_empty() {
            Error::OnlyPickle { id, files: pickles }
        } else {
            Error::NoWeights { id }
        })
    }

    /// The wanted files but for the weights.
    pub fn small_files(&self) -> impl Iterator<Item = &str> {
        self.files
            .iter()
            .map(String::as_str)
            .filter(|name| is_small(name))
    }

    /// The weight files: those that the index names, if there is one, which must be in `snapshot` by now. None if
    /// the index cannot be read.
    pub fn weights(&self, snapshot: &Path) -> Option<Vec<String>> {
        if !self.has(INDEX) {
            return Some(vec![SINGLE.to_owned()]);
        }
        let named = shards(&snapshot.join(INDEX))?;
        Some(named.into_iter().filter(|name| self.has(name)).collect())
    }

    /// The files of the adapter that belongs to the model: the one that its `config.json` names, which must be in
    /// `snapshot` by now, or that of an output of earlier versions of this program.
    pub fn adapter(&self, snapshot: &Path) -> Vec<String> {
        let named = adapter(snapshot);
        if named.is_empty() {
            earlier_adapter(|name| self.has(name))
        } else {
            named
        }
    }

    fn ending_in(&self, endings: &[&str]) -> Vec<String> {
        self.files
            .iter()
            .filter(|name| endings.contains(&ending(name).as_str()))
            .cloned()
            .collect()
    }
}

fn is_small(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let document = upper.starts_with("README") || upper.starts_with("LICENSE");
    let known = matches!(ending(name).as_str(), "json" | "txt" | "jinja")
        || name == "tokenizer.model"
        || document;
    known && !name.contains('/')
}

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
        ];
        assert!(wanted.iter().all(|name| is_small(name)));
        let others = [
            "model.onnx",
            "onnx/config.json",
            "pytorch_model.bin",
            ".gitattributes",
            "other.model",
        ];
        assert!(!others.iter().any(|name| is_small(name)));
    }
}
