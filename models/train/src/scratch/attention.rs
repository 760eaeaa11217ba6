//! The ways to have fewer attention weights that are compared, and the sizes of the network that has them.
//!
//! ```text
//! W_l = Σ_s c_ls D_s      D_s: m × n, s = 1 … S, for all layers l = 1 … L of a role
//!
//! dense        W_l of its own
//! masa         c learnt
//! sequential   c_ls = 1 for s = ⌊l S / L⌋     neighbours share
//! repeated     c_ls = 1 for s = l mod S       the same S layers over and over
//! low-rank     W_l = up_l · down_l            L r (m + n) = S m n
//! grouped      one head of keys and values    what its size leaves
//! ```
//!
//! Grouped: Ainslie et al., arXiv 2305.13245; repeated and sequential: Takase & Kiyono, arXiv 2104.06022.

use std::{fmt, path::Path, str::FromStr};

use anyhow::{Error, Result, anyhow};
use compress_checkpoint::Config;
use compress_core::Role;
use serde_json::Value;

use crate::folder;

/// The roles of attention's weights.
pub const ROLES: [Role; 4] = [Role::Query, Role::Key, Role::Value, Role::Output];

/// How attention's weights are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// Every layer has its own.
    Dense,
    /// Mixtures of atoms for query, key and value.
    MasaQkv,
    /// All query heads share one head of keys and values.
    Grouped,
    /// Pairs of thin matrices.
    LowRank,
    /// Neighbours have the same.
    Sequential,
    /// The first S layers, again and again.
    Repeated,
    /// Mixtures of atoms for all four.
    MasaQkvo,
}

/// How the weight of a role is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// One matrix.
    Whole,
    /// up · down.
    LowRank,
    /// A mixture of atoms.
    Shared,
}

/// The sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Channels of the residual stream; those of all query heads together.
    pub hidden: usize,
    /// Channels within the feed-forward layer.
    pub intermediate: usize,
    /// L
    pub layers: usize,
    /// S: how many atoms the layers share.
    pub atoms: usize,
    /// Query heads.
    pub heads: usize,
    /// Tokens of the tokenizer.
    pub vocabulary: usize,
    /// Tokens that are read at a time.
    pub context: usize,
}

impl Attention {
    /// All, in the order of the paper's table.
    pub const ALL: [Self; 7] = [
        Self::Dense,
        Self::MasaQkv,
        Self::Grouped,
        Self::LowRank,
        Self::Sequential,
        Self::Repeated,
        Self::MasaQkvo,
    ];

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::MasaQkv => "masa-qkv",
            Self::Grouped => "grouped",
            Self::LowRank => "low-rank",
            Self::Sequential => "sequential",
            Self::Repeated => "repeated",
            Self::MasaQkvo => "masa-qkvo",
        }
    }

    /// How the weights of a role are made.
    pub const fn structure(self, role: Role) -> Structure {
        match (self, role) {
            (Self::Dense | Self::Grouped, _)
            | (Self::MasaQkv, Role::Output)
            | (_, Role::Gate | Role::Up | Role::Down) => Structure::Whole,
            (Self::LowRank, _) => Structure::LowRank,
            (Self::MasaQkv | Self::MasaQkvo | Self::Sequential | Self::Repeated, _) => {
                Structure::Shared
            }
        }
    }

    /// The one atom that a layer has, where it is not learnt which.
    pub const fn atom(self, layer: usize, size: &Size) -> Option<usize> {
        match self {
            Self::Sequential => Some(layer * size.atoms / size.layers),
            Self::Repeated => Some(layer % size.atoms),
            _ => None,
        }
    }

    /// The config of the network, with every weight whole.
    pub fn config(self, size: &Size) -> Result<Config> {
        let mut json = folder::config();
        let grouped = self == Self::Grouped;
        let numbers = [
            ("hidden_size", size.hidden),
            ("intermediate_size", size.intermediate),
            ("num_hidden_layers", size.layers),
            ("num_attention_heads", size.heads),
            ("num_key_value_heads", if grouped { 1 } else { size.heads }),
            ("vocab_size", size.vocabulary),
            ("max_position_embeddings", size.context),
            ("bos_token_id", 1),
            ("eos_token_id", 2),
        ];
        for (key, number) in numbers {
            json[key] = Value::from(number);
        }
        json["torch_dtype"] = Value::from("float32");
        Ok(Config::parse(json, Path::new("config.json"))?)
    }
}

impl Size {
    /// About a million parameters, a third of a block's in attention, as in larger models; S = L / 3.
    pub const USUAL: Self = Self {
        hidden: 96,
        intermediate: 256,
        layers: 9,
        atoms: 3,
        heads: 6,
        vocabulary: 512,
        context: 256,
    };

    /// r, by which pairs have as many parameters as atoms: L · r · 2 n = S · n².
    pub const fn rank(&self) -> usize {
        self.atoms * self.hidden / (2 * self.layers)
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Attention {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| anyhow!("`{text}` is no attention; there are {names}"))
    }
}
