//! What is summed over all windows on the way forward through a block.

use compress_core::{Inlet, Needs, Stream};
use compress_models::{Block, Turns};

use crate::{
    Error, Result, Walk,
    accumulate::weight,
    calibrate::{finite, numbers},
};

/// One sum of outer products.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Σ x xᵀ at an inlet.
    Stream(Inlet),
    /// Σ a x xᵀ of what key and value read, a being how much a token is looked at.
    Attended,
}

impl Measure {
    /// All that is needed.
    pub fn all(needs: Needs) -> Vec<Self> {
        let streams = Inlet::ALL.into_iter().filter(|_| needs.activations);
        let attended = needs.attended.then_some(Self::Attended);
        streams.map(Self::Stream).chain(attended).collect()
    }

    /// Where its x is met.
    pub const fn inlet(self) -> Inlet {
        match self {
            Self::Stream(inlet) => inlet,
            Self::Attended => Inlet::Attention,
        }
    }

    /// The rows of a window of which outer products are summed: t × n, all of their numbers finite.
    pub fn rows(
        self,
        (layer, window): (usize, usize),
        block: &Block,
        walk: &Walk,
        turns: &Turns,
    ) -> Result<Vec<f32>> {
        let mut x = numbers(walk.stream(self.inlet()))?;
        if self == Self::Attended {
            let [query, key, _] = walk.projections.clone();
            let received = block.attention.received(query, key, turns);
            weight(&mut x, &received.ok_or_else(not_on_host)?);
        }
        if finite(&x) {
            Ok(x)
        } else {
            let stream = Stream::new(layer, self.inlet());
            Err(Error::Activation { stream, window })
        }
    }
}

pub fn not_on_host() -> Error {
    let problem = "attention weights are measured on the CPU only".into();
    compress_models::Error::Execution { problem }.into()
}
