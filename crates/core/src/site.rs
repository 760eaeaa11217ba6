//! The address of a weight in a decoder: block and role, embedding, or head.
//!
//! Addresses are parsed once, where text comes in; behind that nothing matches tensor names.
//!
//! ```text
//! embedding   vocabulary × hidden        3.query, 3.key, 3.value, 3.output   attention of block 3
//! head        vocabulary × hidden        3.gate, 3.up, 3.down                its feed-forward layer
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The role of a linear weight within its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Attention: the query projection.
    Query,
    /// Attention: the key projection.
    Key,
    /// Attention: the value projection.
    Value,
    /// Attention: the output projection, back into the residual stream.
    Output,
    /// Feed-forward: the gate of `SwiGLU`.
    Gate,
    /// Feed-forward: the branch that is gated.
    Up,
    /// Feed-forward: the down projection, back into the residual stream.
    Down,
}

impl Role {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The word used in plans, tables and selections, such as `query`.
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

/// One weight matrix of the network, written `3.query`, `embedding` or `head`. The order of sites is the order of the
/// network, so that sorted maps list them from input to output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Site {
    /// The embedding of tokens: vocabulary × hidden.
    Embedding,
    /// A linear weight of a block: out × in, applied as W x.
    Block {
        /// Index of the block, from 0.
        layer: usize,
        /// Which of its weights.
        role: Role,
    },
    /// The output head: vocabulary × hidden. A model with tied embeddings has none.
    Head,
}

impl Site {
    /// The site of `role` in block `layer`.
    #[must_use]
    pub const fn new(layer: usize, role: Role) -> Self {
        Self::Block { layer, role }
    }

    /// The 7 · `layers` linear weights of a network, in the order of the forward pass.
    pub fn blocks(layers: usize) -> impl Iterator<Item = Self> {
        (0..layers).flat_map(|layer| Role::ALL.map(|role| Self::Block { layer, role }))
    }

    /// The block that the weight belongs to; none for embedding and head.
    #[must_use]
    pub const fn layer(self) -> Option<usize> {
        match self {
            Self::Block { layer, .. } => Some(layer),
            Self::Embedding | Self::Head => None,
        }
    }

    /// Its role within its block; none for embedding and head.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Block { role, .. } => Some(role),
            Self::Embedding | Self::Head => None,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.pad("embedding"),
            Self::Block { layer, role } => f.pad(&format!("{layer}.{role}")),
            Self::Head => f.pad("head"),
        }
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
        let block = || {
            let (layer, role) = text.split_once('.')?;
            Some(Self::Block {
                layer: layer.parse().ok()?,
                role: role.parse().ok()?,
            })
        };
        let found = match text {
            "embedding" => Some(Self::Embedding),
            "head" => Some(Self::Head),
            _ => block(),
        };
        found.ok_or_else(|| Error::Parse {
            text: text.into(),
            expected: "a site such as 3.query",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_is_read_as_it_is_written() {
        let ends = [Site::Embedding, Site::Head];
        for site in Site::blocks(12).chain(ends) {
            assert_eq!(site.to_string().parse::<Site>().unwrap(), site);
        }
        for text in ["query", "3", "3.head", ".query", "embedding.0", ""] {
            assert!(text.parse::<Site>().is_err(), "{text}");
        }
    }
}
