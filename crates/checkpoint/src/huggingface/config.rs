//! The description of a decoder in `config.json`, checked once.

mod fields;
mod keys;
pub mod rotary;

use std::path::{Path, PathBuf};

use compress_core::{Role, Shape, Site};
use compress_think::HeadShape;
use serde_json::{Map, Value};

use self::{fields::Fields, rotary::Rope};
use crate::{
    Architecture, Error, Result,
    huggingface::quantisation::Quantisation,
    names::{self, NormSite},
};

/// Where the output head of a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A matrix of its own.
    Own,
    /// It is the embedding.
    Embedding,
    /// Nowhere: the model gives hidden states, or something that is made of them.
    Nowhere,
}

/// The class that models have which predict the next token.
pub const CAUSAL: &str = "ForCausalLM";

/// The class of a decoder by itself.
pub const DECODER: &str = "Model";

/// The classes that transformers has for each family, by what follows its name, and what loads them.
const STOCK: [(&str, &str); 5] = [
    (CAUSAL, "AutoModelForCausalLM"),
    (DECODER, "AutoModel"),
    (
        "ForSequenceClassification",
        "AutoModelForSequenceClassification",
    ),
    ("ForTokenClassification", "AutoModelForTokenClassification"),
    ("ForQuestionAnswering", "AutoModelForQuestionAnswering"),
];

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
    /// How many tokens back attention sees, itself included; all of them where absent.
    pub sliding_window: Option<usize>,
    /// What its class in transformers puts on the decoder: `ForCausalLM`, `Model` for nothing at all, or another.
    pub class: String,
    /// The output head.
    pub head: Head,
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
    /// How weights are stored that are no plain floats.
    pub(crate) quantisation: Quantisation,
    /// The file as it was, for writing it again.
    pub json: Map<String, Value>,
    /// Where it is, for messages.
    path: PathBuf,
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
        let vocabulary = fields.size("vocab_size")?;
        let layers = fields.size("num_hidden_layers")?;
        let is = |one| architecture == one;
        let optional = is(Architecture::Llama) || is(Architecture::Qwen3);
        let attention_bias = fields.flag("attention_bias", false)?;
        fields.only("hidden_act", &["silu", "swish"])?;
        fields.refuse(keys::OTHER)?;
        let config = Self {
            architecture,
            hidden,
            intermediate: fields.size("intermediate_size")?,
            layers,
            heads,
            key_value_heads: fields
                .optional_size("num_key_value_heads")?
                .unwrap_or_else(|| architecture.usual_key_value_heads(heads)),
            head_size: fields.head_size(architecture, hidden, heads)?,
            vocabulary,
            context: fields
                .optional_size("max_position_embeddings")?
                .unwrap_or_else(|| architecture.usual_context()),
            norm_epsilon: fields.optional_positive("rms_norm_eps")?.unwrap_or(1e-6),
            sliding_window: fields.sliding_window(architecture, layers)?,
            class: fields.class(architecture)?,
            head: if fields.flag("tie_word_embeddings", false)? {
                Head::Embedding
            } else {
                Head::Own
            },
            // The classes of the other families have or lack biases whatever a config says.
            query_bias: is(Architecture::Qwen2) || (optional && attention_bias),
            output_bias: optional && attention_bias,
            mlp_bias: is(Architecture::Llama) && fields.flag("mlp_bias", false)?,
            query_key_norm: is(Architecture::Qwen3),
            // An id that no embedding has is none; that matters only where a text is to begin with it.
            bos: fields
                .token("bos_token_id")?
                .filter(|bos| (*bos as usize) < vocabulary),
            quantisation: Quantisation::parse(&json, path)?,
            json: json.clone(),
            path: path.into(),
        };
        config.check(&fields)?;
        Ok(config)
    }

    /// The rotary embedding, which only those who run the network need: weights can be cut without.
    ///
    /// Fails where it is of a kind that is not implemented, and for settings of which nothing is known: they could
    /// change what the network computes.
    pub fn rope(&self) -> Result<Rope> {
        let (json, path) = (&self.json, self.path.as_path());
        let fields = Fields { json, path };
        let rope = Rope::parse(&fields, self.context)?;
        fields.refuse_unknown()?;
        Ok(rope)
    }

    /// Whether its class is defined by code beside the weights, which the family in transformers does not have.
    pub(crate) fn has_own_class(&self) -> bool {
        let is_stock = STOCK.iter().any(|(class, _)| *class == self.class);
        !is_stock && self.json.contains_key("auto_map")
    }

    /// The class of transformers that loads it.
    pub(crate) fn auto_class(&self) -> &'static str {
        let stock = STOCK.iter().find(|(class, _)| *class == self.class);
        stock.map_or("AutoModel", |(_, auto)| *auto)
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

    /// What a cache of keys and values is made for.
    #[must_use]
    pub const fn head_shape(&self) -> HeadShape {
        HeadShape {
            layers: self.layers,
            key_value_heads: self.key_value_heads,
            head_size: self.head_size,
        }
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

    /// The shape of any weight: out × in, vocabulary × hidden for embedding and head.
    #[must_use]
    pub fn weight_shape(&self, site: Site) -> Shape {
        let ends = Shape::new(self.vocabulary, self.hidden);
        site.role().map_or(ends, |role| self.shape(role))
    }

    /// Fails where the model cannot be asked for the next token: it has no head, or a rotary embedding that is not
    /// implemented.
    pub fn predicts(&self) -> Result<()> {
        self.rope()?;
        match self.head {
            Head::Own | Head::Embedding => Ok(()),
            Head::Nowhere => Err(Error::NoHead {
                path: self.path.clone(),
                class: format!("{}{}", self.architecture.class(), self.class),
            }),
        }
    }

    /// Every weight of the network: a head that is the embedding is none of its own.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        let head = (self.head == Head::Own).then_some(Site::Head);
        let blocks = Site::blocks(self.layers);
        blocks.chain([Site::Embedding]).chain(head)
    }

    /// Whether the layer of a weight has a bias.
    #[must_use]
    pub const fn has_bias(&self, site: Site) -> bool {
        match site.role() {
            Some(Role::Query | Role::Key | Role::Value) => self.query_bias,
            Some(Role::Output) => self.output_bias,
            Some(Role::Gate | Role::Up | Role::Down) => self.mlp_bias,
            None => false,
        }
    }

    /// Every tensor that the network needs besides its weights and their biases, with
    /// its shape.
    #[must_use]
    pub fn other_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![(names::norm(NormSite::Last), vec![self.hidden])];
        for layer in 0..self.layers {
            let mut add = |norm, size| tensors.push((names::norm(norm), vec![size]));
            add(NormSite::Attention(layer), self.hidden);
            add(NormSite::FeedForward(layer), self.hidden);
            if self.query_key_norm {
                add(NormSite::Query(layer), self.head_size);
                add(NormSite::Key(layer), self.head_size);
            }
        }
        tensors
    }
}
