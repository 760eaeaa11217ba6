//! What the files beside a tokenizer say: `tokenizer_config.json`, and in older models
//! `special_tokens_map.json` and `added_tokens.json`.
//!
//! transformers reads the older two only where the first has no `added_tokens_decoder`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::{refused, token};
use crate::{Architecture, Config, Result, read::directory};

/// The class of transformers that a tokenizer is loaded by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// `LlamaTokenizer`, of Mistral as well: reads `tokenizer.model`.
    Llama,
    /// `Qwen2Tokenizer`, of Qwen3 as well: reads `vocab.json` and `merges.txt`.
    Qwen2,
    /// `GPT2Tokenizer`.
    Gpt2,
    /// Another one, which takes `tokenizer.json` as it is.
    Other(String),
}

impl Class {
    /// The class of the settings, else of the config, else of the architecture.
    fn of(values: &Map<String, Value>, config: &Config) -> Self {
        let named = |json: &Map<String, Value>| {
            let name = json.get("tokenizer_class")?.as_str()?;
            Some(name.strip_suffix("Fast").unwrap_or(name).to_owned())
        };
        let name = named(values).or_else(|| named(&config.json));
        match (name.as_deref(), config.architecture) {
            (Some("LlamaTokenizer"), _) | (None, Architecture::Llama | Architecture::Mistral) => {
                Self::Llama
            }
            (Some("Qwen2Tokenizer"), _) | (None, Architecture::Qwen2 | Architecture::Qwen3) => {
                Self::Qwen2
            }
            (Some("GPT2Tokenizer"), _) => Self::Gpt2,
            (Some(name), _) => Self::Other(name.to_owned()),
        }
    }

    /// The special tokens that a class has where no file names any.
    const fn defaults(&self) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self {
            Self::Llama => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("unk_token", "<unk>"),
            ],
            Self::Qwen2 => &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
            Self::Gpt2 => &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
            Self::Other(_) => &[],
        }
    }
}

/// The keys of special tokens, in the order in which they are added.
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// The key of a list of further ones.
const MORE: &str = "additional_special_tokens";

/// The settings of a tokenizer.
#[derive(Debug)]
pub struct Settings {
    /// The class that loads it.
    pub class: Class,
    /// The tokens that are added, by the ids that the files state.
    pub added: BTreeMap<u32, AddedToken>,
    /// Whether these are in `tokenizer_config.json`, which then says all about them.
    pub complete: bool,
    /// The file of most settings, for errors.
    path: PathBuf,
    values: Map<String, Value>,
}

impl Settings {
    /// Reads the files of a directory, none of which must be there.
    pub fn read(root: &Path, config: &Config) -> Result<Self> {
        let path = root.join("tokenizer_config.json");
        let values = object(&path)?.unwrap_or_default();
        let class = Class::of(&values, config);
        let mut settings = Self {
            class,
            added: BTreeMap::new(),
            complete: values.contains_key("added_tokens_decoder"),
            path,
            values,
        };
        if settings.complete {
            settings.read_decoder()?;
        } else {
            settings.read_special(&root.join("special_tokens_map.json"))?;
            settings.read_added(&root.join("added_tokens.json"))?;
        }
        Ok(settings)
    }

    /// `added_tokens_decoder`: tokens with their flags by id.
    fn read_decoder(&mut self) -> Result<()> {
        let decoder = self.values.get("added_tokens_decoder");
        let decoder = decoder.and_then(Value::as_object);
        let decoder = decoder.ok_or_else(|| {
            refused(&self.path)("`added_tokens_decoder` is no object of tokens by id")
        })?;
        for (id, value) in decoder {
            let problem = || format!("`{id}` in `added_tokens_decoder` is no id");
            let id = id.parse().map_err(|_| refused(&self.path)(problem()))?;
            let token = token::parse(value, false).map_err(refused(&self.path))?;
            self.added.insert(id, token);
        }
        Ok(())
    }

    /// `special_tokens_map.json`, which counts more than `tokenizer_config.json`; its further tokens
    /// come on top.
    fn read_special(&mut self, path: &Path) -> Result<()> {
        let map = object(path)?.unwrap_or_default();
        for (key, mut value) in map {
            // What it holds are special tokens, whatever their flags.
            for token in value.as_array_mut().into_iter().flatten() {
                mark(token);
            }
            mark(&mut value);
            if let (MORE, Value::Array(more)) = (key.as_str(), &mut value) {
                let named = self.values.get(MORE).and_then(Value::as_array);
                let named = named.cloned().unwrap_or_default();
                more.splice(0..0, named);
            }
            self.values.insert(key, value);
        }
        Ok(())
    }

    /// `added_tokens.json`: ids by token. Special are those that another file names as such.
    fn read_added(&mut self, path: &Path) -> Result<()> {
        let Some(ids) = object(path)? else {
            return Ok(());
        };
        let special: Vec<_> = self.named()?.into_iter().map(|it| it.content).collect();
        for (content, id) in ids {
            let known = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let problem =
                || format!("the id of `{content}` is {id}, not a whole number of 32 bits");
            let id = known.ok_or_else(|| refused(path)(problem()))?;
            let special = special.contains(&content);
            let token = AddedToken::from(content.as_str(), special);
            if let Some(earlier) = self.added.insert(id, token) {
                let problem = format!(
                    "`{}` and `{content}` both have the id {id}",
                    earlier.content
                );
                return Err(refused(path)(problem));
            }
        }
        Ok(())
    }

    /// The file of most settings.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The special tokens of the files, without the defaults of the class.
    fn named(&self) -> Result<Vec<AddedToken>> {
        let values = SPECIAL.iter().filter_map(|key| self.values.get(*key));
        values
            .filter(|value| !value.is_null())
            .chain(self.more())
            .map(|value| token::parse(value, false).map_err(refused(&self.path)))
            .collect()
    }

    fn more(&self) -> impl Iterator<Item = &Value> {
        let more = self.values.get(MORE).and_then(Value::as_array);
        more.into_iter().flatten()
    }

    /// A special token by its key, that of the class where no file has the key; none where it is
    /// null.
    pub fn special(&self, key: &str) -> Result<Option<AddedToken>> {
        match self.values.get(key) {
            Some(Value::Null) => Ok(None),
            Some(value) => token::parse(value, false)
                .map(Some)
                .map_err(refused(&self.path)),
            None => {
                let default = self.class.defaults().iter().find(|(name, _)| *name == key);
                Ok(default.map(|(_, token)| AddedToken::from(*token, true)))
            }
        }
    }

    /// All special tokens in the order in which they are added, each with whether it is given with
    /// flags of its own, which then replace those of the tokenizer.
    pub fn all_special(&self) -> Result<Vec<(AddedToken, bool)>> {
        // This class makes such tokens of all names.
        let made = matches!(self.class, Class::Qwen2);
        let mut all: Vec<(AddedToken, bool)> = Vec::new();
        for key in SPECIAL {
            if let Some(token) = self.special(key)? {
                let flagged = made || self.values.get(key).is_some_and(Value::is_object);
                // The same token as in the list of added ones, flags included.
                let known = self.added.values().find(|it| it.content == token.content);
                all.push((known.cloned().unwrap_or(token), flagged));
            }
        }
        for value in self.more() {
            let token = token::parse(value, false).map_err(refused(&self.path))?;
            all.push((token, value.is_object()));
        }
        Ok(all)
    }

    /// A setting that is true or false, with what it is where it is missing and where it is null.
    pub fn truth(&self, key: &str, missing: bool, null: bool) -> Result<bool> {
        match self.values.get(key) {
            None => Ok(missing),
            Some(Value::Null) => Ok(null),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(_) => Err(refused(&self.path)(format!(
                "`{key}` is neither true nor false"
            ))),
        }
    }

    /// Whether a setting is there and not null.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.is_null())
    }

    /// That no files but `tokenizer.json` are read for a class, in words.
    pub fn unread(&self) -> String {
        let class = match &self.class {
            Class::Llama => "LlamaTokenizer",
            Class::Qwen2 => "Qwen2Tokenizer",
            Class::Gpt2 => "GPT2Tokenizer",
            Class::Other(name) => name,
        };
        format!("there is no tokenizer.json, and this file is not read for a {class}")
    }
}

/// Makes a token that is an object a special one.
fn mark(token: &mut Value) {
    if let Some(flags) = token.as_object_mut() {
        flags.insert("special".into(), true.into());
    }
}

/// The object in a JSON file; none where there is no such file.
fn object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    match directory::read_json(path)? {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(refused(path)("not a JSON object")),
    }
}
