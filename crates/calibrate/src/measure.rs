//! The sums of outer products that a forward pass through a block makes.
//!
//! ```text
//! H = Σ x xᵀ    at each of four layer inputs, n × n        Σ a x xᵀ    at that of query, key and value
//! ```

use compress_core::{InputKind, LayerInput, Needs};
use compress_models::{Block, RotaryAngles, to_host};

use crate::{BlockTrace, Error, Result, accumulate::weight, host::finite};

/// One sum of outer products over all tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// H = Σ x xᵀ at a layer input.
    LayerInput(InputKind),
    /// Σ a x xᵀ at the layer input of query, key and value, a being the attention mass of the token.
    AttentionWeighted,
}

impl Measure {
    /// The sums that cover some needs.
    pub fn all(needs: Needs) -> Vec<Self> {
        let inputs = InputKind::ALL.into_iter().filter(|_| needs.activations);
        let attention_weighted = needs.attention_weighted.then_some(Self::AttentionWeighted);
        inputs
            .map(Self::LayerInput)
            .chain(attention_weighted)
            .collect()
    }

    /// The layer input of its x.
    pub const fn input_kind(self) -> InputKind {
        match self {
            Self::LayerInput(kind) => kind,
            Self::AttentionWeighted => InputKind::Attention,
        }
    }

    /// The rows of one window whose outer products are summed, t × n: x, or √a x.
    ///
    /// Fails where a number is not finite, naming layer input and window.
    pub fn rows(
        self,
        (layer, window): (usize, usize),
        block: &Block,
        trace: &BlockTrace,
        angles: &RotaryAngles,
    ) -> Result<Vec<f32>> {
        let mut x = to_host(trace.input(self.input_kind()))?;
        if self == Self::AttentionWeighted {
            let [query, key, _] = trace.projections.clone();
            let attention_mass = block.attention.attention_mass(query, key, angles)?;
            weight(&mut x, &attention_mass);
        }
        if finite(&x) {
            Ok(x)
        } else {
            let input = LayerInput::new(layer, self.input_kind());
            Err(Error::Activation { input, window })
        }
    }
}
