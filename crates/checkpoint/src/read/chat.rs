//! Conversations as the model's chat template renders them (Jinja, as transformers' `apply_chat_template` runs it).
//!
//! The template is in `chat_template.jinja`, else in `tokenizer_config.json`, or in the metadata of a GGUF file. It sees
//! the messages and the special tokens; tools and documents are not passed.

use std::{fs, path::Path};

use minijinja::{
    Environment, Error as TemplateError, ErrorKind, Value as TemplateValue, syntax::SyntaxConfig,
    value::Serde,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Checkpoint, Error, Result, read::directory};

/// The file that newer models have their template in.
const TEMPLATE: &str = "chat_template.jinja";

/// The file of the tokenizer's settings.
const SETTINGS: &str = "tokenizer_config.json";

/// Special tokens that templates name.
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Checkpoint {
    /// A conversation as the text that the model was trained on, special tokens included: the tokenizer adds none to it.
    /// With `reply` it ends where the model's answer begins. Templates may know further `variables`, as `enable_thinking`
    /// of Qwen3's.
    ///
    /// Fails where the model has no chat template, or the template refuses the messages.
    pub fn chat(
        &self,
        messages: &[Message],
        reply: bool,
        mut variables: Map<String, Value>,
    ) -> Result<String> {
        let settings = self.tokenizer_settings()?;
        let template = self.chat_template(&settings)?.ok_or_else(|| {
            let problem = "it has no chat template: it was not made for conversations";
            Error::damaged(self.path(), problem)
        })?;
        let special = SPECIAL.into_iter();
        variables.extend(special.filter_map(|name| {
            let token = token(settings.get(name)?)?;
            Some((name.to_owned(), token.into()))
        }));
        variables.insert(
            "messages".into(),
            serde_json::to_value(messages).unwrap_or_default(),
        );
        variables.insert("add_generation_prompt".into(), reply.into());
        render(&template, variables).map_err(|error| {
            // The cause of a call that failed says why; the error itself only where.
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |e| format!(": {e}"));
            Error::damaged(self.path(), format!("its chat template: {error}{cause}"))
        })
    }

    /// The tokens that end an answer: those of `generation_config.json`, else of `config.json`.
    pub fn end_tokens(&self) -> Result<Vec<u32>> {
        let path = self.path().join("generation_config.json");
        let settings = if !self.is_gguf() && path.is_file() {
            directory::read_json(&path)?
        } else {
            Map::new().into()
        };
        let own = settings.get("eos_token_id").filter(|ids| !ids.is_null());
        let ids = own.or_else(|| self.config().json.get("eos_token_id"));
        let one = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        Ok(match ids {
            Some(Value::Array(ids)) => ids.iter().filter_map(one).collect(),
            Some(id) => one(id).into_iter().collect(),
            None => Vec::new(),
        })
    }

    /// `tokenizer_config.json`, or what a GGUF file says in its place; empty where there is none.
    fn tokenizer_settings(&self) -> Result<Map<String, Value>> {
        let path = self.path().join(SETTINGS);
        let json = if self.is_gguf() {
            let files = self.tokenizer_files()?.into_iter();
            let text = files
                .filter(|(name, _)| name == SETTINGS)
                .map(|(_, text)| text)
                .next();
            serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default()
        } else if path.is_file() {
            directory::read_json(&path)?
        } else {
            Value::Null
        };
        Ok(match json {
            Value::Object(settings) => settings,
            _ => Map::new(),
        })
    }

    /// The template; of several the one called `default`.
    fn chat_template(&self, settings: &Map<String, Value>) -> Result<Option<String>> {
        let path = self.path().join(TEMPLATE);
        if !self.is_gguf() && path.is_file() {
            return read(&path).map(Some);
        }
        let named = |all: &Vec<Value>| {
            let default = all.iter().find(|it| it["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        };
        Ok(match settings.get("chat_template") {
            Some(Value::String(template)) => Some(template.clone()),
            Some(Value::Array(all)) => named(all),
            _ => None,
        })
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(path))
}

/// The text of a special token, which is a string or has one in it.
fn token(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Renders a template with the settings that transformers has.
fn render(
    template: &str,
    variables: Map<String, Value>,
) -> std::result::Result<String, TemplateError> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    // Methods of Python's strings and dictionaries, which templates call.
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> std::result::Result<String, _> {
            Err(TemplateError::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.render_str(template, TemplateValue::from(Serde(variables)))
}
