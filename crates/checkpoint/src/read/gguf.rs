//! A GGUF file seen as a Hugging Face checkpoint.

use std::{collections::BTreeMap, path::PathBuf};

use compress_gguf::{Gguf, huggingface};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::{Error, Kind, Result, Tensor, read::weight_file::WeightFile};

/// The header of a GGUF file, and what of it has another name here.
pub struct GgufFile {
    header: Gguf,
    path: PathBuf,
    /// The file's own name of each tensor, by its Hugging Face name.
    names: BTreeMap<String, String>,
}

impl GgufFile {
    /// Reads the header.
    pub fn parse(file: &WeightFile) -> Result<Self> {
        let path = file.path.clone();
        let header = file.look(Gguf::parse)?.map_err(wrap(&path))?;
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

    /// Puts all numbers of a tensor, as the file has them, in Hugging Face's order.
    pub fn reorder(&self, name: &str, numbers: &mut [f32]) -> Result<()> {
        match self.heads(name)? {
            Some((heads, cols)) => huggingface::unpermute_rows(heads, numbers, cols),
            None => Ok(()),
        }
        .map_err(wrap(&self.path))
    }

    /// Whether the rows of a tensor lie in another order than Hugging Face's.
    pub fn is_reordered(&self, name: &str) -> Result<bool> {
        Ok(self.heads(name)?.is_some())
    }

    /// How many heads the rows of a reordered tensor belong to, and how many columns it has.
    fn heads(&self, name: &str) -> Result<Option<(usize, usize)>> {
        let missing = || Error::MissingTensor {
            path: self.path.clone(),
            name: name.into(),
        };
        let own = self.names.get(name).ok_or_else(missing)?;
        let tensor = self.header.tensors().get(own).ok_or_else(missing)?;
        let cols = tensor.shape.iter().skip(1).product();
        let heads = huggingface::permuted_heads(&self.header, own).map_err(wrap(&self.path))?;
        Ok(heads.map(|heads| (heads, cols)))
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
