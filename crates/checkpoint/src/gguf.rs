//! A GGUF file seen as a Hugging Face checkpoint.

use std::{collections::BTreeMap, path::PathBuf};

use compress_gguf::{Gguf, huggingface};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::{Error, Kind, Result, Tensor, directory::Mapped};

/// The header of a GGUF file, and what of it has another name here.
pub struct GgufFile {
    header: Gguf,
    path: PathBuf,
    /// The file's own name of each tensor, by its Hugging Face name.
    names: BTreeMap<String, String>,
}

impl GgufFile {
    /// Reads the header.
    pub fn parse(file: &Mapped) -> Result<Self> {
        let path = file.path.clone();
        let header = Gguf::parse(&file.bytes).map_err(wrap(&path))?;
        let named = header
            .tensors()
            .keys()
            .filter_map(|name| Some((huggingface::tensor_name(name)?, name.clone())));
        let names = named.collect();
        Ok(Self {
            header,
            path,
            names,
        })
    }

    /// The `config.json` that says the same.
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
                    file: 0,
                    range,
                },
            ))
        });
        described.collect()
    }

    /// The numbers of a tensor, its rows in Hugging Face's order; `file` is what was parsed.
    pub fn numbers(&self, name: &str, file: &Mapped) -> Result<Vec<f32>> {
        let own = self.names.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.path.clone(),
            name: name.into(),
        })?;
        huggingface::values(&self.header, &file.bytes, own).map_err(wrap(&self.path))
    }

    /// The tokenizer in the metadata.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        compress_gguf::tokenizer(&self.header).map_err(wrap(&self.path))
    }

    /// The files in which transformers expects a tokenizer, by name.
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

fn wrap(path: &std::path::Path) -> impl FnOnce(compress_gguf::Error) -> Error {
    move |source| Error::Gguf {
        path: path.into(),
        source: Box::new(source),
    }
}
