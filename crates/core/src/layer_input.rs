//! Where activations enter linear weights: some weights share what they read.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Role, Site};

/// Which of a block's activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// The normed residual stream that query, key and value read.
    Attention,
    /// The mixed values of all heads, which the output weight reads.
    Output,
    /// The normed residual stream that gate and up read.
    FeedForward,
    /// The gated activations that the down weight reads.
    Down,
}

impl InputKind {
    /// In the order in which a block comes by them.
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

    /// One of the weights that read it; they all have the same inputs.
    #[must_use]
    pub const fn reader(self) -> Role {
        match self {
            Self::Attention => Role::Query,
            Self::Output => Role::Output,
            Self::FeedForward => Role::Gate,
            Self::Down => Role::Down,
        }
    }

    /// The weights that read it.
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

/// Which of some sites read each input, by their places; embedding and head read none.
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
    /// What the weights of the role read.
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
    /// The input that a weight of a block reads; none for embedding and head.
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
