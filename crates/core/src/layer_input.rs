//! The inputs of linear weights: which activations each weight reads, and which weights share them.
//!
//! A block has four: one for query, key and value, one for the output projection, one for gate and up, one for down.
//! Weights with the same input have the same H = Σ x xᵀ, so it is measured, damped and factorised once for all of
//! them. They are one unit of work throughout: steps are carried out, and their memory predicted, per layer input.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Role, Site};

/// One of the four activations of a block that linear weights read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// The normed residual stream that query, key and value read.
    Attention,
    /// The concatenated outputs of all attention heads, before the output projection.
    Output,
    /// The normed residual stream that gate and up read.
    FeedForward,
    /// The gated activations act(gate) ∘ up, which the down projection reads.
    Down,
}

impl InputKind {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 4] = [Self::Attention, Self::Output, Self::FeedForward, Self::Down];

    /// The word used in evidence files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Output => "output",
            Self::FeedForward => "feed_forward",
            Self::Down => "down",
        }
    }

    /// One of the weights that read it, for questions that all of them answer alike, such as the number of inputs.
    #[must_use]
    pub const fn reader(self) -> Role {
        match self {
            Self::Attention => Role::Query,
            Self::Output => Role::Output,
            Self::FeedForward => Role::Gate,
            Self::Down => Role::Down,
        }
    }

    /// All weights that read it, in the order of [`Role::ALL`].
    #[must_use]
    pub const fn readers(self) -> &'static [Role] {
        match self {
            Self::Attention => &[Role::Query, Role::Key, Role::Value],
            Self::Output => &[Role::Output],
            Self::FeedForward => &[Role::Gate, Role::Up],
            Self::Down => &[Role::Down],
        }
    }
}

/// One block's activations at one input, written `3.attention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerInput {
    /// Index of the block, from 0.
    pub layer: usize,
    /// Where in the block.
    pub kind: InputKind,
}

impl LayerInput {
    /// The input at `kind` of block `layer`.
    #[must_use]
    pub const fn new(layer: usize, kind: InputKind) -> Self {
        Self { layer, kind }
    }
}

/// Groups sites by their layer input: the positions in `sites` of those that read it, in ascending order. Embedding
/// and head come under none.
#[must_use]
pub fn by_input(sites: impl IntoIterator<Item = Site>) -> BTreeMap<Option<LayerInput>, Vec<usize>> {
    let mut readers: BTreeMap<Option<LayerInput>, Vec<usize>> = BTreeMap::new();
    for (place, site) in sites.into_iter().enumerate() {
        readers.entry(site.input()).or_default().push(place);
    }
    readers
}

impl fmt::Display for LayerInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.layer, self.kind.name()))
    }
}

impl Role {
    /// The layer input that weights of this role read.
    #[must_use]
    pub const fn input_kind(self) -> InputKind {
        match self {
            Self::Query | Self::Key | Self::Value => InputKind::Attention,
            Self::Output => InputKind::Output,
            Self::Gate | Self::Up => InputKind::FeedForward,
            Self::Down => InputKind::Down,
        }
    }
}

impl Site {
    /// The layer input that a weight of a block reads; none for embedding and head, whose inputs are not measured.
    #[must_use]
    pub const fn input(self) -> Option<LayerInput> {
        match self {
            Self::Block { layer, role } => Some(LayerInput::new(layer, role.input_kind())),
            Self::Embedding | Self::Head => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_reads_the_stream_that_counts_it_among_its_readers() {
        for role in Role::ALL {
            assert!(role.input_kind().readers().contains(&role));
            assert!(
                role.input_kind()
                    .readers()
                    .contains(&role.input_kind().reader())
            );
        }
        let readers: usize = InputKind::ALL.iter().map(|kind| kind.readers().len()).sum();
        assert_eq!(readers, Role::ALL.len());
    }
}
