//! A GGUF file read as a Hugging Face checkpoint: names, row order, config and tokenizer.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use compress_gguf::{Gguf, huggingface};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::{
    Error, Kind, Result, Tensor,
    read::{split, weight_file::WeightFile},
};

/// The header of a GGUF file, and the map between its tensor names and Hugging Face's.
pub struct GgufFile {
    header: Gguf,
    path: PathBuf,
    /// The name in the file of each tensor, by its Hugging Face name.
    names: BTreeMap<String, String>,
}

impl GgufFile {
    /// Opens a file and, where it is one part of a split model, all others beside it; each is
    /// mapped while its header is parsed. Returns the files in the order of the parts.
    ///
    /// Fails where a part is missing or another than its name says, and where a tensor has no place
    /// in a checkpoint.
    pub fn open(path: &Path) -> Result<(Self, Vec<WeightFile>)> {
        let (header, files) = split::open(path)?;
        let mut names = BTreeMap::new();
        for own in header.tensors().keys() {
            match huggingface::tensor_name(own) {
                Some(name) => names.insert(name, own.clone()),
                // The config has it.
                None if own == huggingface::DIVISORS => None,
                // What it would do to the result is not known.
                None => {
                    let problem =
                        format!("tensor `{own}` is there, which no model of the family has");
                    return Err(Error::damaged(path, problem));
                }
            };
        }
        let path = path.to_owned();
        Ok((
            Self {
                header,
                path,
                names,
            },
            files,
        ))
    }

    /// What people should be told of how the file is read.
    pub fn warnings(&self) -> Result<Vec<String>> {
        self.header.warnings().map_err(wrap(&self.path))
    }

    /// The equivalent `config.json`. Fails for models that it could not describe, such as scaled
    /// rotary embedding or experts.
    pub fn config(&self) -> Result<Value> {
        huggingface::config(&self.header).map_err(wrap(&self.path))
    }

    /// The tensors by their Hugging Face names.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let described = self.names.iter().filter_map(|(name, own)| {
            let tensor = self.header.tensors().get(own)?;
            let (shape, range) = (tensor.shape.clone(), tensor.range.clone());
            Some((
                name.clone(),
                Tensor {
                    shape,
                    kind: Kind::Block(tensor.kind),
                    file: tensor.part,
                    range,
                },
            ))
        });
        described.collect()
    }

    /// Brings the rows of a whole decoded tensor from the file's order to Hugging Face's, in place.
    /// Only query and key of the architecture `llama` differ: ggml rotates neighbouring rows,
    /// transformers the halves of a head.
    pub fn reorder(&self, name: &str, numbers: &mut [f32]) -> Result<()> {
        match self.heads(name)? {
            Some((heads, cols)) => huggingface::unpermute_rows(heads, numbers, cols),
            None => Ok(()),
        }
        .map_err(wrap(&self.path))
    }

    /// Whether a tensor needs [`reorder`](Self::reorder), and so cannot be read a few rows at a
    /// time.
    pub fn is_reordered(&self, name: &str) -> Result<bool> {
        Ok(self.heads(name)?.is_some())
    }

    /// Number of heads and columns of a tensor whose rows are reordered; none for the others.
    fn heads(&self, name: &str) -> Result<Option<(usize, usize)>> {
        let missing = || Error::MissingTensor {
            path: self.path.clone(),
            name: name.into(),
        };
        let own = self.names.get(name).ok_or_else(missing)?;
        let tensor = self.header.tensors().get(own).ok_or_else(missing)?;
        // 1 for a bias, whose shape has no second dimension.
        let cols = tensor.shape.iter().skip(1).product();
        let heads = huggingface::permuted_heads(&self.header, own).map_err(wrap(&self.path))?;
        Ok(heads.map(|heads| (heads, cols)))
    }

    /// Rebuilds the tokenizer from the metadata.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        compress_gguf::tokenizer(&self.header).map_err(wrap(&self.path))
    }

    /// `tokenizer.json` and `tokenizer_config.json`, name and contents; the latter has the chat
    /// template and the special tokens, which the former cannot express.
    pub fn tokenizer_files(&self) -> Result<Vec<(String, String)>> {
        let tokenizer = self.tokenizer()?;
        let text = tokenizer.to_string(true).map_err(|e| Error::Tokenizer {
            path: self.path.clone(),
            problem: e.to_string(),
        })?;
        let config = self.config()?;
        let token = |field| {
            config
                .get(field)
                .and_then(Value::as_u64)
                .and_then(|id| tokenizer.id_to_token(u32::try_from(id).ok()?))
        };
        let template = self.header.metadata().get("tokenizer.chat_template");
        let settings = json!({
            "chat_template": template.and_then(compress_gguf::Value::as_str),
            // The generic class reads all of its behaviour from tokenizer.json.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": token("bos_token_id"),
            "eos_token": token("eos_token_id"),
            "model_max_length": config.get("max_position_embeddings"),
            "clean_up_tokenization_spaces": false,
        });
        Ok(vec![
            ("tokenizer.json".into(), text),
            ("tokenizer_config.json".into(), format!("{settings:#}\n")),
        ])
    }
}

/// Adds the path to an error of the GGUF reader.
pub fn wrap(path: &Path) -> impl FnOnce(compress_gguf::Error) -> Error {
    move |source| Error::Gguf {
        path: path.into(),
        source: Box::new(source),
    }
}
