//! Which numbers of a block are trained, and their gradients.

use std::str::FromStr;

use burn::tensor::Tensor;
use compress_calibrate::{Gradients, Walk};
use compress_core::{Role, Site};
use compress_models::{Block, Decoder, Weight};
use serde::Serialize;

use crate::{Error, Result};

/// Which numbers are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Trained {
    /// The factors of low-rank components.
    pub lrc: bool,
    /// Those, and the weights that stayed whole.
    pub factors: bool,
    /// The scales of the norms in the blocks.
    pub norms: bool,
}

impl Trained {
    /// The paper's choice.
    pub const LRC: Self = Self {
        lrc: true,
        factors: false,
        norms: false,
    };

    const fn holds(self, block: &Block, role: Role) -> bool {
        match block.linear(role).weight {
            Weight::LowRank(_) => self.lrc || self.factors,
            Weight::Whole(_) => self.factors,
            // Codes are not trained, and a correction would have to make good for those it is tied to.
            Weight::Rounded(_) | Weight::RoundedPair(_) => false,
        }
    }

    fn weights(self, block: &Block) -> impl Iterator<Item = Role> {
        Role::ALL
            .into_iter()
            .filter(move |&role| self.holds(block, role))
    }

    /// The matrices of a block that are trained, each with its tensor's name; norms are 1 × hidden.
    #[must_use]
    pub fn matrices(self, block: &Block, layer: usize) -> Vec<(String, Tensor<2>)> {
        let mut all = Vec::new();
        for role in self.weights(block) {
            let module = Site::new(layer, role).module();
            let own = block.linear(role).matrices();
            all.extend(
                own.into_iter()
                    .map(|(suffix, value)| (format!("{module}.{suffix}"), value)),
            );
        }
        if self.norms {
            all.extend(norms(block, layer));
        }
        all
    }

    /// Puts matrices in their places, in the order of [`matrices`](Self::matrices).
    pub fn set(self, block: &mut Block, values: &mut impl Iterator<Item = Tensor<2>>) {
        for role in self.weights(block).collect::<Vec<_>>() {
            let linear = block.linear_mut(role);
            let count = linear.matrices().len();
            linear.set_matrices(values.by_ref().take(count));
        }
        if self.norms {
            for norm in [&mut block.attention_norm, &mut block.feed_forward_norm] {
                if let Some(value) = values.next() {
                    norm.gamma = burn::module::Param::from_tensor(value.squeeze_dim(0));
                }
            }
        }
    }

    /// The gradients by those matrices, in their order.
    #[must_use]
    pub fn gradients(self, block: &Block, walk: &Walk, by: &Gradients) -> Vec<Tensor<2>> {
        let mut all = Vec::new();
        for role in self.weights(block) {
            let input = walk.stream(Site::new(0, role).stream().inlet);
            let output = by.outputs[role as usize].clone();
            all.extend(block.linear(role).gradients(input, output));
        }
        if self.norms {
            let inputs = [&walk.residual, &walk.middle];
            let norms = [&block.attention_norm, &block.feed_forward_norm];
            for ((x, norm), gradient) in inputs.into_iter().zip(norms).zip(&by.norms) {
                let square = (x.clone() * x.clone()).mean_dim(2);
                let length = (square + norm.epsilon).sqrt();
                let each: Tensor<3> = gradient.clone() * (x.clone() / length);
                all.push(each.sum_dim(1).squeeze_dim(0));
            }
        }
        all
    }
}

/// The scales of a block's norms, 1 × hidden, each with its tensor's name.
fn norms(block: &Block, layer: usize) -> [(String, Tensor<2>); 2] {
    [
        ("input_layernorm", &block.attention_norm),
        ("post_attention_layernorm", &block.feed_forward_norm),
    ]
    .map(|(name, norm)| {
        let name = format!("model.layers.{layer}.{name}.weight");
        (name, norm.gamma.val().unsqueeze())
    })
}

/// How many numbers of a model are trained.
#[must_use]
pub fn count(model: &Decoder, trained: Trained) -> usize {
    tensors(model, trained)
        .map(|(_, value)| value.dims().iter().product::<usize>())
        .sum()
}

/// The names of all trained matrices of a model, block after block; an error where there are none.
pub fn names(model: &Decoder, trained: Trained) -> Result<Vec<String>> {
    let names: Vec<String> = tensors(model, trained).map(|(name, _)| name).collect();
    if names.is_empty() {
        return Err(Error::Nothing);
    }
    Ok(names)
}

/// Those matrices.
pub fn matrices(model: &Decoder, trained: Trained) -> Vec<Tensor<2>> {
    tensors(model, trained).map(|(_, value)| value).collect()
}

/// The trained matrices of a model, block after block, each with its tensor's name.
pub fn tensors(model: &Decoder, trained: Trained) -> impl Iterator<Item = (String, Tensor<2>)> {
    let blocks = model.blocks.iter().enumerate();
    blocks.flat_map(move |(layer, block)| trained.matrices(block, layer))
}

/// Puts matrices in their places, in the same order.
pub fn set(model: &mut Decoder, trained: Trained, values: Vec<Tensor<2>>) {
    let mut values = values.into_iter();
    for block in &mut model.blocks {
        trained.set(block, &mut values);
    }
}

impl FromStr for Trained {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut trained = Self {
            lrc: false,
            factors: false,
            norms: false,
        };
        for word in text.split(',') {
            match word.trim() {
                "lrc" => trained.lrc = true,
                "factors" => trained.factors = true,
                "norms" => trained.norms = true,
                _ => return Err("what is trained is a list of lrc, factors and norms".into()),
            }
        }
        Ok(trained)
    }
}
