//! The families of networks that are understood.

use std::fmt;

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
