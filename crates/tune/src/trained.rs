//! The choice of matrices that are trained, and their gradients.

use std::str::FromStr;

use burn::{module::Param, nn::RmsNorm, tensor::Tensor};
use compress_calibrate::{BlockTrace, Gradients};
use compress_checkpoint::names::{self, NormSite};
use compress_core::{Group, Role, Site};
use compress_models::{Block, Decoder, Linear, Pair, Store, Weight};
use serde::Serialize;

use crate::{Error, Result, atoms};

/// The matrices that are trained.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each kind of weight is trained or not, whatever the others"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Trained {
    /// Both factors of low-rank components, and of what atoms that weights share leave of each.
    pub lrc: bool,
    /// The same, and weights that stayed whole.
    pub factors: bool,
    /// The gains of the norms: in blocks, of query and key heads where a model has these, and before the head.
    pub norms: bool,
    /// Atoms that layers share, and the coefficients by which each layer mixes them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub atoms: bool,
}

/// The gradients of a block.
pub struct BlockGradients {
    /// By its own trained matrices, in the order of [`Trained::matrices`].
    pub own: Vec<Tensor<2>>,
    /// By atoms, as far as the block reads them: a share for each of its mixtures.
    pub atoms: Vec<(Group, Tensor<2>)>,
}

impl Trained {
    /// Low-rank components alone, the choice of the paper of `WeLore`.
    pub const LRC: Self = Self {
        lrc: true,
        factors: false,
        norms: false,
        atoms: false,
    };

    /// The trained matrices of a weight, each with its place among its own.
    fn of_weight(self, linear: &Linear) -> Vec<(usize, Tensor<2>)> {
        let all = linear.matrices().into_iter();
        all.filter(|(place, _)| self.holds(&linear.weight, *place))
            .collect()
    }

    /// Whether the matrix at a place of a weight is trained.
    fn holds(self, weight: &Weight, place: usize) -> bool {
        match weight {
            Weight::Whole(_) => self.factors,
            Weight::LowRank(pair) => self.pairs() && is_float(pair),
            // The coefficients come first.
            Weight::Shared(_) if place == 0 => self.atoms,
            Weight::Shared(mixture) => {
                self.pairs() && mixture.residual.as_ref().is_some_and(is_float)
            }
            // A correction would have to make good for the packed numbers that it is tied to.
            Weight::Sum(_) => false,
        }
    }

    /// Whether pairs of factors are trained.
    const fn pairs(self) -> bool {
        self.lrc || self.factors
    }

    /// The trained matrices of a block, each with its tensor's name: factors, coefficients or weights, then norms as
    /// 1 × their size. Atoms are no block's own.
    #[must_use]
    pub fn matrices(self, block: &Block, layer: usize) -> Vec<(String, Tensor<2>)> {
        let mut all = Vec::new();
        for role in Role::ALL {
            let linear = block.linear(role);
            let modules = names::modules(Site::new(layer, role), linear.weight.form());
            let named = |(place, value): (usize, _)| (format!("{}.weight", modules[place]), value);
            all.extend(self.of_weight(linear).into_iter().map(named));
        }
        if self.norms {
            let norms = norms(block);
            all.extend(norms.map(|(of, norm)| {
                let name = names::norm(of(layer));
                (name, norm.gamma.val().unsqueeze())
            }));
        }
        all
    }

    /// Replaces the trained matrices of a block, in the order of [`matrices`](Self::matrices).
    pub fn set(self, block: &mut Block, values: &mut impl Iterator<Item = Tensor<2>>) {
        for role in Role::ALL {
            let linear = block.linear_mut(role);
            let trained = self.of_weight(linear).into_iter();
            let places: Vec<usize> = trained.map(|(place, _)| place).collect();
            linear.set_matrices(places.into_iter().zip(values.by_ref()));
        }
        if self.norms {
            let heads = &mut block.attention;
            let norms = [&mut block.attention_norm, &mut block.feed_forward_norm];
            let heads = [&mut heads.query_norm, &mut heads.key_norm];
            let heads = heads.into_iter().filter_map(Option::as_mut);
            for (norm, value) in norms.into_iter().chain(heads).zip(values) {
                norm.gamma = Param::from_tensor(value.squeeze_dim(0));
            }
        }
    }

    /// The gradients by the trained matrices, in their order, from the block's trace and the backward pass through
    /// it.
    #[must_use]
    pub fn gradients(self, block: &Block, trace: &BlockTrace, by: &Gradients) -> BlockGradients {
        let (mut all, mut atoms) = (Vec::new(), Vec::new());
        for role in Role::ALL {
            let linear = block.linear(role);
            // A gradient has the price of a product, and is not computed in vain.
            if self.of_weight(linear).is_empty() {
                continue;
            }
            let input = trace.input(role.input_kind());
            let output = by.outputs[role as usize].clone();
            if self.atoms
                && let Weight::Shared(mixture) = &linear.weight
            {
                let [by_atoms, by_coefficients] = mixture.gradients(&rows(&input), &rows(&output));
                atoms.push((mixture.group(), by_atoms));
                all.push(by_coefficients);
                // The residual's are asked for by themselves.
                if !self.holds(&linear.weight, 1) {
                    continue;
                }
            }
            all.extend(linear.gradients(input, output));
        }
        if self.norms {
            let [query, key, _] = &trace.projections;
            let inputs = [&trace.residual, &trace.middle, query, key];
            let gradients = by.norms.iter().chain(&by.head_norms);
            let all_norms = all_norms(block).into_iter().zip(inputs).zip(gradients);
            for ((norm, x), gradient) in all_norms {
                all.extend(norm.map(|(_, norm)| by_scale(norm, x, gradient)));
            }
        }
        BlockGradients { own: all, atoms }
    }
}

/// One row for each token.
fn rows(x: &Tensor<3>) -> Tensor<2> {
    let width = x.dims()[2];
    x.clone().reshape([-1, width as i32])
}

/// Whether both factors are floats: packed numbers are not trained.
const fn is_float(pair: &Pair) -> bool {
    matches!(
        pair,
        Pair {
            up: Store::Float(_),
            down: Store::Float(_),
        }
    )
}

/// The site of a norm, given its block.
type OfBlock = fn(usize) -> NormSite;

/// The norms of a block; those of heads are absent in most models.
fn all_norms(block: &Block) -> [Option<(OfBlock, &RmsNorm)>; 4] {
    let attention = &block.attention;
    let head_norm = |of: OfBlock, norm| Option::map(norm, |norm| (of, norm));
    [
        Some((NormSite::Attention, &block.attention_norm)),
        Some((NormSite::FeedForward, &block.feed_forward_norm)),
        head_norm(NormSite::Query, attention.query_norm.as_ref()),
        head_norm(NormSite::Key, attention.key_norm.as_ref()),
    ]
}

/// The norms that the block has.
fn norms(block: &Block) -> impl Iterator<Item = (OfBlock, &RmsNorm)> {
    all_norms(block).into_iter().flatten()
}

/// The gradient by a norm's gain γ, 1 × its size, from the norm's input and the gradient by its output: for each run
/// of as many channels as the norm has,
///
/// ```text
/// ∂L/∂γ = Σ g ⊙ x / √(mean x² + ε)
/// ```
pub fn by_scale(norm: &RmsNorm, x: &Tensor<3>, gradient: &Tensor<3>) -> Tensor<2> {
    let size = norm.gamma.dims()[0] as i32;
    let rows = |x: &Tensor<3>| -> Tensor<2> { x.clone().reshape([-1, size]) };
    let (x, gradient) = (rows(x), rows(gradient));
    let length = ((x.clone() * x.clone()).mean_dim(1) + norm.epsilon).sqrt();
    (gradient * (x / length)).sum_dim(0)
}

/// The names of a model's trained matrices, in the order of [`tensors`]; an error where there are none.
pub fn tensor_names(model: &Decoder, trained: Trained) -> Result<Vec<String>> {
    let names: Vec<String> = tensors(model, trained).map(|(name, _)| name).collect();
    if names.is_empty() {
        return Err(Error::Nothing);
    }
    Ok(names)
}

/// The trained matrices of a model, in the same order.
pub fn matrices(model: &Decoder, trained: Trained) -> Vec<Tensor<2>> {
    tensors(model, trained).map(|(_, value)| value).collect()
}

/// The trained matrices of a model, each with its tensor's name: block after block, the last norm, then atoms by group.
pub fn tensors(model: &Decoder, trained: Trained) -> impl Iterator<Item = (String, Tensor<2>)> {
    let blocks = model.blocks.iter().enumerate();
    let last = || {
        (
            names::norm(NormSite::Last),
            model.norm.gamma.val().unsqueeze(),
        )
    };
    blocks
        .flat_map(move |(layer, block)| trained.matrices(block, layer))
        .chain(trained.norms.then(last))
        .chain(
            trained
                .atoms
                .then(|| atoms::tensors(model))
                .into_iter()
                .flatten(),
        )
}

/// Replaces the trained matrices of a model, in the order of [`tensors`].
pub fn set(model: &mut Decoder, trained: Trained, values: Vec<Tensor<2>>) {
    let mut values = values.into_iter();
    for block in &mut model.blocks {
        trained.set(block, &mut values);
    }
    if trained.norms
        && let Some(value) = values.next()
    {
        model.norm.gamma = Param::from_tensor(value.squeeze_dim(0));
    }
    if trained.atoms {
        atoms::set(model, values);
    }
}

/// Numbers in some matrices.
pub fn count<'a>(matrices: impl IntoIterator<Item = &'a Tensor<2>>) -> usize {
    let sizes = matrices.into_iter().map(burn::Tensor::dims);
    sizes.map(|[rows, cols]| rows * cols).sum()
}

impl FromStr for Trained {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut trained = Self {
            lrc: false,
            factors: false,
            norms: false,
            atoms: false,
        };
        for word in text.split(',') {
            match word.trim() {
                "lrc" => trained.lrc = true,
                "factors" => trained.factors = true,
                "norms" => trained.norms = true,
                "atoms" => trained.atoms = true,
                _ => {
                    return Err("what is trained is a list of lrc, atoms, factors and norms".into());
                }
            }
        }
        Ok(trained)
    }
}
