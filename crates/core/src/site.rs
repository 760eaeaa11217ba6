//! Where a linear weight sits in the network, and what Hugging Face calls it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a linear weight does within its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Attention: what is looked for.
    Query,
    /// Attention: what can be found.
    Key,
    /// Attention: what is taken along.
    Value,
    /// Attention: back into the residual stream.
    Output,
    /// Feed-forward: the gate of `SwiGLU`.
    Gate,
    /// Feed-forward: what is gated.
    Up,
    /// Feed-forward: back into the residual stream.
    Down,
}

impl Role {
    /// In the order in which a block applies them.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The word used in plans, tables and selections.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Output => "output",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The module's name within a block of a Hugging Face decoder.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| Error::Parse {
                text: text.into(),
                expected: "a role: query, key, value, output, gate, up or down",
            })
    }
}

/// One linear weight of the network, written `3.query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Site {
    /// Index of the block, from 0.
    pub layer: usize,
    /// Which of its weights.
    pub role: Role,
}

impl Site {
    /// The site of `role` in block `layer`.
    #[must_use]
    pub const fn new(layer: usize, role: Role) -> Self {
        Self { layer, role }
    }

    /// Every site of a network of `layers` blocks, in the order of the network.
    pub fn all(layers: usize) -> impl Iterator<Item = Self> {
        (0..layers).flat_map(|layer| Role::ALL.map(|role| Self { layer, role }))
    }

    /// The module that holds the weight: `model.layers.3.self_attn.q_proj`.
    #[must_use]
    pub fn module(self) -> String {
        format!("model.layers.{}.{}", self.layer, self.role.module())
    }

    /// The tensor of the whole weight: the module's name and `.weight`.
    #[must_use]
    pub fn weight(self) -> String {
        format!("{}.weight", self.module())
    }

    /// The site of a module's name, if it names one.
    #[must_use]
    pub fn of_module(module: &str) -> Option<Self> {
        let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
        let role = Role::ALL.into_iter().find(|role| role.module() == rest)?;
        Some(Self {
            layer: layer.parse().ok()?,
            role,
        })
    }

    /// The site of a whole weight's tensor name, if it names one.
    #[must_use]
    pub fn of_weight(tensor: &str) -> Option<Self> {
        Self::of_module(tensor.strip_suffix(".weight")?)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.layer, self.role))
    }
}

impl From<Site> for String {
    fn from(site: Site) -> Self {
        site.to_string()
    }
}

impl TryFrom<String> for Site {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (layer, role) = text.split_once('.')?;
            Some(Self {
                layer: layer.parse().ok()?,
                role: role.parse().ok()?,
            })
        };
        parse().ok_or_else(|| Error::Parse {
            text: text.into(),
            expected: "a site such as 3.query",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_site_is_read_back() {
        for site in Site::all(12) {
            assert_eq!(Site::of_weight(&site.weight()), Some(site));
            assert_eq!(site.to_string().parse::<Site>().unwrap(), site);
        }
    }

    #[test]
    fn what_is_no_linear_weight_of_a_block_is_no_site() {
        for name in [
            "lm_head.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.x.mlp.up_proj.weight",
        ] {
            assert_eq!(Site::of_weight(name), None);
        }
        for text in ["query", "3", "3.head", ".query"] {
            assert!(text.parse::<Site>().is_err());
        }
    }
}
