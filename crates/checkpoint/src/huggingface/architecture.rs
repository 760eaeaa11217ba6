//! The decoder families that are supported.

use std::fmt;

/// The supported decoder families, by transformers' `model_type`. One implementation runs them all;
/// they differ only in fields of [`Config`](crate::Config), as biases, norms and windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Grouped-query attention, rotary embedding, `RMSNorm`, `SwiGLU`.
    Llama,
    /// Llama with sliding-window attention.
    Mistral,
    /// Llama with biases on query, key and value.
    Qwen2,
    /// Llama with norms on query and key.
    Qwen3,
}

impl Architecture {
    /// All families, in the order of messages.
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

    /// The prefix of its classes in transformers, as in `LlamaForCausalLM`.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
        }
    }

    /// The context that transformers takes where a config names none, in tokens.
    pub(crate) const fn usual_context(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Mistral => 131_072,
            Self::Qwen2 | Self::Qwen3 => 32_768,
        }
    }

    /// The key and value heads that transformers takes where a config names none.
    pub(crate) const fn usual_key_value_heads(self, heads: usize) -> usize {
        match self {
            Self::Llama => heads,
            Self::Mistral => 8,
            Self::Qwen2 | Self::Qwen3 => 32,
        }
    }

    /// The `model_type`s, separated by commas, for error messages.
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
