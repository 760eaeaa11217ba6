//! What a `config.json` says of a decoder, checked once.

use std::{fmt, path::Path};

use compress_core::{Role, Shape};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The networks that are understood. They differ only in what a [`Config`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// The common form: grouped-query attention, rotary embedding, `RMSNorm`, `SwiGLU`.
    Llama,
    /// Llama with a sliding window.
    Mistral,
    /// Llama with biases on query, key and value.
    Qwen2,
    /// Llama with norms on query and key.
    Qwen3,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The `model_type` of its config.
    #[must_use]
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The prefix of its classes in transformers.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
        }
    }

    /// The list for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::model_type).join(", ")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type())
    }
}

/// Llama 3's way to stretch the rotary embedding to long contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// By how much low frequencies are slowed down.
    pub factor: f64,
    /// Wavelengths above `original_context / low` are slowed down fully.
    pub low: f64,
    /// Wavelengths below `original_context / high` are left alone.
    pub high: f64,
    /// The context that the model was first trained for.
    pub original_context: f64,
}

/// The shape of a decoder.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of config.json"
)]
#[derive(Clone, Debug)]
pub struct Config {
    /// Which family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / key_value_heads` query heads.
    pub key_value_heads: usize,
    /// Numbers per head.
    pub head_size: usize,
    /// Number of tokens there are.
    pub vocabulary: usize,
    /// The longest text that the model was trained for, in tokens.
    pub context: usize,
    /// ε of the norms.
    pub norm_epsilon: f64,
    /// Base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// How the rotary embedding is stretched.
    pub rope_scaling: Option<Llama3Scaling>,
    /// How many tokens back attention sees, itself included; all of them where absent.
    pub sliding_window: Option<usize>,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Biases on query, key and value.
    pub query_bias: bool,
    /// A bias on the attention's output.
    pub output_bias: bool,
    /// Biases in the feed-forward layer.
    pub mlp_bias: bool,
    /// Norms on the queries and keys of each head.
    pub query_key_norm: bool,
    /// The token that begins a text, where the model has one.
    pub bos: Option<u32>,
    /// The file as it was, for writing it again.
    pub json: Map<String, Value>,
}

impl Config {
    /// Understands the contents of a `config.json`; `path` is for messages.
    pub fn parse(json: Value, path: &Path) -> Result<Self> {
        let Value::Object(json) = json else {
            return Err(Error::damaged(path, "not a JSON object"));
        };
        let fields = Fields { json: &json, path };
        let architecture = fields.architecture()?;
        let heads = fields.size("num_attention_heads")?;
        let hidden = fields.size("hidden_size")?;
        let is = |one| architecture == one;
        fields.only("hidden_act", "silu")?;
        let config = Self {
            architecture,
            hidden,
            intermediate: fields.size("intermediate_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads,
            key_value_heads: fields
                .optional_size("num_key_value_heads")?
                .unwrap_or(heads),
            head_size: match fields.optional_size("head_dim")? {
                Some(size) => size,
                None if hidden.is_multiple_of(heads) => hidden / heads,
                None => {
                    return Err(fields.wrong(
                        "hidden_size",
                        format!("{hidden} is no multiple of the {heads} heads"),
                    ));
                }
            },
            vocabulary: fields.size("vocab_size")?,
            context: fields.size("max_position_embeddings")?,
            norm_epsilon: fields.positive("rms_norm_eps")?,
            rope_theta: fields.rope_theta()?,
            rope_scaling: fields.rope_scaling()?,
            sliding_window: fields.sliding_window(architecture)?,
            tied: fields.flag("tie_word_embeddings", false)?,
            query_bias: is(Architecture::Qwen2) || fields.flag("attention_bias", false)?,
            output_bias: !is(Architecture::Qwen2) && fields.flag("attention_bias", false)?,
            mlp_bias: fields.flag("mlp_bias", false)?,
            query_key_norm: is(Architecture::Qwen3),
            bos: fields.token("bos_token_id")?,
            json: json.clone(),
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        if !self.heads.is_multiple_of(self.key_value_heads) {
            let problem = format!(
                "{} does not divide the {} heads",
                self.key_value_heads, self.heads
            );
            return Err(fields.wrong("num_key_value_heads", problem));
        }
        if !self.head_size.is_multiple_of(2) {
            return Err(fields.wrong(
                "head_dim",
                format!("{} is odd; rotary embedding needs pairs", self.head_size),
            ));
        }
        Ok(())
    }

    /// The shape of the weight of a role, out × in.
    #[must_use]
    pub fn shape(&self, role: Role) -> Shape {
        let attention = self.heads * self.head_size;
        let key_value = self.key_value_heads * self.head_size;
        match role {
            Role::Query => Shape::new(attention, self.hidden),
            Role::Key | Role::Value => Shape::new(key_value, self.hidden),
            Role::Output => Shape::new(self.hidden, attention),
            Role::Gate | Role::Up => Shape::new(self.intermediate, self.hidden),
            Role::Down => Shape::new(self.hidden, self.intermediate),
        }
    }

    /// Whether the linear layer of a role has a bias.
    #[must_use]
    pub const fn has_bias(&self, role: Role) -> bool {
        match role {
            Role::Query | Role::Key | Role::Value => self.query_bias,
            Role::Output => self.output_bias,
            Role::Gate | Role::Up | Role::Down => self.mlp_bias,
        }
    }

    /// Every tensor that the network needs besides the linear layers of its blocks, with its shape.
    #[must_use]
    pub fn other_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![
            (
                "model.embed_tokens.weight".to_owned(),
                vec![self.vocabulary, self.hidden],
            ),
            ("model.norm.weight".to_owned(), vec![self.hidden]),
        ];
        if !self.tied {
            tensors.push((
                "lm_head.weight".to_owned(),
                vec![self.vocabulary, self.hidden],
            ));
        }
        for layer in 0..self.layers {
            let mut add = |name: &str, size| {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![size]))
            };
            add("input_layernorm", self.hidden);
            add("post_attention_layernorm", self.hidden);
            if self.query_key_norm {
                add("self_attn.q_norm", self.head_size);
                add("self_attn.k_norm", self.head_size);
            }
        }
        tensors
    }
}

/// Typed access to the fields, with errors that name them.
struct Fields<'a> {
    json: &'a Map<String, Value>,
    path: &'a Path,
}

impl Fields<'_> {
    fn wrong(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.into(),
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// A field that is present and not null.
    fn get(&self, field: &str) -> Option<&Value> {
        self.json.get(field).filter(|value| !value.is_null())
    }

    fn architecture(&self) -> Result<Architecture> {
        let found = self
            .get("model_type")
            .ok_or_else(|| self.wrong("model_type", "is missing"))?;
        let found = found
            .as_str()
            .ok_or_else(|| self.wrong("model_type", "is not a string"))?;
        let plain = found.strip_prefix("lowrank_").unwrap_or(found);
        Architecture::ALL
            .into_iter()
            .find(|architecture| architecture.model_type() == plain)
            .ok_or_else(|| Error::Architecture {
                path: self.path.into(),
                found: found.into(),
            })
    }

    fn optional_size(&self, field: &str) -> Result<Option<usize>> {
        // Above 2^24 no size of a real network lies; below it, no product of three overflows.
        let in_range = |n: &u64| (1..=1 << 24).contains(n);
        self.get(field)
            .map(|value| {
                let size = value
                    .as_u64()
                    .filter(in_range)
                    .and_then(|n| usize::try_from(n).ok());
                size.ok_or_else(|| self.wrong(field, format!("is {value}, not a size")))
            })
            .transpose()
    }

    fn size(&self, field: &str) -> Result<usize> {
        self.optional_size(field)?
            .ok_or_else(|| self.wrong(field, "is missing"))
    }

    fn positive(&self, field: &str) -> Result<f64> {
        let value = self
            .get(field)
            .ok_or_else(|| self.wrong(field, "is missing"))?;
        let number = value.as_f64().filter(|x| *x > 0.0);
        number.ok_or_else(|| self.wrong(field, format!("is {value}, not a positive number")))
    }

    fn flag(&self, field: &str, otherwise: bool) -> Result<bool> {
        self.get(field).map_or(Ok(otherwise), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(field, format!("is {value}, not true or false")))
        })
    }

    /// A token id; the first of them where there is a list.
    fn token(&self, field: &str) -> Result<Option<u32>> {
        let first = |value: &Value| {
            value
                .as_array()
                .map_or_else(|| Some(value.clone()), |ids| ids.first().cloned())
        };
        self.get(field)
            .and_then(first)
            .map(|value| {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| self.wrong(field, format!("is {value}, not a token id")))
            })
            .transpose()
    }

    fn only(&self, field: &str, supported: &str) -> Result<()> {
        match self.get(field) {
            Some(value) if value.as_str() != Some(supported) => Err(self.wrong(
                field,
                format!("is {value}; only \"{supported}\" is supported"),
            )),
            _ => Ok(()),
        }
    }

    /// transformers 5 moved the rotary embedding's fields into `rope_parameters`.
    fn rope_fields(&self) -> Result<Option<(&'static str, Fields<'_>)>> {
        for field in ["rope_parameters", "rope_scaling"] {
            if let Some(value) = self.get(field) {
                let json = value
                    .as_object()
                    .ok_or_else(|| self.wrong(field, "is not an object"))?;
                return Ok(Some((
                    field,
                    Fields {
                        json,
                        path: self.path,
                    },
                )));
            }
        }
        Ok(None)
    }

    fn rope_theta(&self) -> Result<f64> {
        if self.get("rope_theta").is_some() {
            return self.positive("rope_theta");
        }
        match self.rope_fields()? {
            Some((_, rope)) if rope.get("rope_theta").is_some() => rope.positive("rope_theta"),
            _ => Ok(10_000.0),
        }
    }

    fn rope_scaling(&self) -> Result<Option<Llama3Scaling>> {
        let Some((field, rope)) = self.rope_fields()? else {
            return Ok(None);
        };
        let kind = rope
            .get("rope_type")
            .or_else(|| rope.get("type"))
            .and_then(Value::as_str);
        match kind {
            None | Some("default") => Ok(None),
            Some("llama3") => Ok(Some(Llama3Scaling {
                factor: rope.positive("factor")?,
                low: rope.positive("low_freq_factor")?,
                high: rope.positive("high_freq_factor")?,
                original_context: rope.positive("original_max_position_embeddings")?,
            })),
            Some(other) => Err(self.wrong(
                field,
                format!("has type `{other}`; only `default` and `llama3` are supported"),
            )),
        }
    }

    /// Qwen turns its window on by a flag, and then not in every layer; Llama has none.
    fn sliding_window(&self, architecture: Architecture) -> Result<Option<usize>> {
        match architecture {
            Architecture::Mistral => self.optional_size("sliding_window"),
            Architecture::Qwen2 | Architecture::Qwen3
                if self.flag("use_sliding_window", false)? =>
            {
                Err(self.wrong(
                    "use_sliding_window",
                    "is true; windows in some layers only are not supported",
                ))
            }
            _ => Ok(None),
        }
    }
}
