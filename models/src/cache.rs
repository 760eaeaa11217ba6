//! The key-value cache: what attention remembers of earlier tokens.

use burn::tensor::Tensor;

/// Keys and values of every layer.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) length: usize,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tokens it remembers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether it remembers nothing yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Keys and values of one layer, batch × key-value heads × time × d.
#[derive(Clone, Debug, Default)]
pub struct LayerCache(Option<(Tensor<4>, Tensor<4>)>);

impl LayerCache {
    /// Adds the keys and values of new tokens and gives back those of all tokens.
    pub(crate) fn extend(&mut self, key: Tensor<4>, value: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let all = match self.0.take() {
            Some((keys, values)) => (
                Tensor::cat(vec![keys, key], 2),
                Tensor::cat(vec![values, value], 2),
            ),
            None => (key, value),
        };
        self.0.insert(all).clone()
    }
}
