//! The architectures with a Hugging Face counterpart, and their metadata keys, which begin with
//! their names.

use crate::metadata::needed;
use crate::{Error, Gguf};

/// An architecture of the Llama family, by `general.architecture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Llama and models of the same shape, such as Mistral and `SmolLM`: llama.cpp converts them
    /// all under this name.
    Llama,
    Qwen2,
    Qwen3,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// The architecture of a file, and access to its keys. The error for another architecture lists
    /// the supported ones.
    pub(super) fn of(gguf: &Gguf) -> Result<(Self, Keys<'_>), Error> {
        const KEY: &str = "general.architecture";
        let name = needed(KEY, gguf.text(KEY)?)?;
        match Self::ALL.into_iter().find(|known| known.name() == name) {
            Some(known) => Ok((
                known,
                Keys {
                    gguf,
                    prefix: known.name(),
                },
            )),
            None => Err(Error::Architecture {
                architecture: name.to_owned(),
                supported: Self::ALL.map(Self::name).join(", "),
            }),
        }
    }

    /// Its name, the same in `general.architecture` and in transformers' `model_type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Its class in transformers, for `architectures` in the config.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The metadata under an architecture's name, such as `llama.block_count`.
#[derive(Clone, Copy)]
pub(super) struct Keys<'g> {
    gguf: &'g Gguf,
    prefix: &'static str,
}

impl<'g> Keys<'g> {
    /// The full key of `suffix`.
    pub(super) fn key(self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// The non-negative integer at `suffix`; an error where it is missing.
    pub(super) fn needed_whole(self, suffix: &str) -> Result<usize, Error> {
        needed(&self.key(suffix), self.whole(suffix)?)
    }

    /// The non-negative integer at `suffix`, if it is there.
    pub(super) fn whole(self, suffix: &str) -> Result<Option<usize>, Error> {
        self.gguf.whole(&self.key(suffix))
    }

    /// The finite number at `suffix`, if it is there.
    pub(super) fn number(self, suffix: &str) -> Result<Option<f64>, Error> {
        self.gguf.number(&self.key(suffix))
    }

    /// The string at `suffix`, if it is there.
    pub(super) fn text(self, suffix: &str) -> Result<Option<&'g str>, Error> {
        self.gguf.text(&self.key(suffix))
    }

    /// The number of query heads.
    pub(super) fn heads(self) -> Result<usize, Error> {
        self.needed_whole("attention.head_count")
    }

    /// The number of key and value heads; that of the query heads where the file does not say.
    pub(super) fn key_value_heads(self) -> Result<usize, Error> {
        match self.whole("attention.head_count_kv")? {
            Some(heads) => Ok(heads),
            None => self.heads(),
        }
    }
}
