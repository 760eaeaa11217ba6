//! The weights of a role from its atoms, and the small network that gives the coefficients while it trains.
//!
//! ```text
//! c_l = V₃ silu(V₂ silu(V₁ e_l + b₁) + b₂) + b₃      e_l: an embedding of block l; c_l: S numbers
//! W_l = Σ_s c_ls D_s
//! ```
//!
//! The embeddings are one table for all roles, the network is each role's own. Only c is kept when training is over.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use burn::tensor::{Tensor, activation::silu};
use compress_checkpoint::names;
use compress_core::{Group, Role};
use compress_models::to_device;

use super::{
    attention::{Attention, Size},
    parts::{Part, Start},
};

/// Width of the embeddings of blocks, and of the network behind them.
const WIDTH: usize = 64;

/// The embeddings of blocks, L × [`WIDTH`].
const BLOCKS: &str = "coefficients.blocks";

/// What the matrices of the network are multiplied by, and start larger by. `AdamW` moves every number by about the
/// learning rate: by so much in each of 64 inputs, three layers deep, coefficients would change by half in a step.
pub const PACE: f32 = 0.1;

/// √(E x² / E silu(x)²) for normal x: what keeps the size of activations.
const GAIN: f32 = 1.68;

/// Matrices by their names.
pub type Matrices = BTreeMap<String, Tensor<2>>;

/// The matrix of a name.
pub fn matrix(of: &Matrices, name: &str) -> Result<Tensor<2>> {
    let found = of.get(name).cloned();
    found.with_context(|| format!("the network has no matrix `{name}`"))
}

/// The dictionary of a role: all layers are one group.
pub const fn group(role: Role) -> Group {
    Group { role, first: 0 }
}

/// The name of a role's atoms, S·m × n.
pub fn atoms(role: Role) -> String {
    format!("{}.weight", names::dictionary(group(role)))
}

/// A matrix of the network that gives a role's coefficients, and its bias.
fn layer(role: Role, layer: usize) -> [String; 2] {
    ["weight", "bias"].map(|what| format!("coefficients.{role}.{layer}.{what}"))
}

/// What is trained to give the coefficients of some roles.
///
/// They start as normal numbers of variance 1 / S, so that mixtures are as large as the atoms are.
pub fn parts(roles: &[Role], size: &Size) -> Vec<Part> {
    let width = (WIDTH as f32).sqrt().recip();
    let last = GAIN * width / (size.atoms as f32).sqrt();
    let sizes = [(WIDTH, width), (WIDTH, GAIN * width), (size.atoms, last)];
    let mut all = Vec::new();
    for &role in roles {
        for (index, (outputs, scale)) in sizes.into_iter().enumerate() {
            let [weight, bias] = layer(role, index);
            let start = Start::Normal(scale / PACE);
            all.push(Part::new(weight, [outputs, WIDTH], start));
            all.push(Part::new(bias, [1, outputs], Start::Same(0.0)));
        }
    }
    if !roles.is_empty() {
        let start = Start::Normal(1.0 / PACE);
        all.push(Part::new(BLOCKS.into(), [size.layers, WIDTH], start));
    }
    all
}

/// c of a role, L × S.
pub fn coefficients(
    attention: Attention,
    size: &Size,
    role: Role,
    of: &Matrices,
) -> Result<Tensor<2>> {
    if attention.atom(0, size).is_some() {
        let device = matrix(of, &atoms(role))?.device();
        let mut ones = vec![0.0; size.layers * size.atoms];
        let rows = ones.chunks_exact_mut(size.atoms).enumerate();
        for (layer, row) in rows {
            let own = attention.atom(layer, size);
            let one = own.and_then(|atom| row.get_mut(atom));
            one.into_iter().for_each(|c| *c = 1.0);
        }
        return Ok(to_device(ones, [size.layers, size.atoms], &device));
    }
    let paced = |name: &str| Ok::<_, anyhow::Error>(matrix(of, name)? * PACE);
    let linear = |x: Tensor<2>, index| {
        let [weight, bias] = layer(role, index);
        let product = x.matmul(paced(&weight)?.transpose());
        Ok::<_, anyhow::Error>(product + paced(&bias)?)
    };
    let x = silu(linear(paced(BLOCKS)?, 0)?);
    let x = silu(linear(x, 1)?);
    linear(x, 2)
}

/// Every weight, m × n, from c, L × S, and the atoms one below the other, S·m × n.
pub fn mixed(coefficients: &Tensor<2>, stacked: Tensor<2>) -> Vec<Tensor<2>> {
    let [layers, atoms] = coefficients.dims();
    let [rows, cols] = stacked.dims();
    let rows = rows / atoms;
    let flat = stacked.reshape([atoms, rows * cols]);
    // L × m·n in one product. Its rows are parted, so that the gradients by them are a sum of disjoint parts, the same
    // in any order.
    let all = coefficients.clone().matmul(flat);
    let row = |layer| all.clone().narrow(0, layer, 1).reshape([rows, cols]);
    (0..layers).map(row).collect()
}
