//! Atoms among what is trained: one matrix for each group, which all of its layers read.
//!
//! ```text
//! ∂L/∂Dₛ = Σ_l c_ls M_l     M_l = g_lᵀ x_l, m × n, over the layers l of the group
//! ```
//!
//! A step of Adam changes every number by about the rate, whatever its size. Atoms come with a length of 1, as Matrix PCA
//! makes them, and coefficients as long as weights: the rate that is right for factors would take atoms apart, and leave
//! coefficients where they are. So they meet first: D' = a D, c' = c / a, with a a power of two, which rounds nothing and
//! so changes no product.

use std::collections::BTreeMap;

use burn::{module::Param, tensor::Tensor};
use compress_checkpoint::names;
use compress_core::{Group, Role};
use compress_models::{Decoder, Mixture, Store, Weight, to_device, to_host};

use crate::{Error, Result};

/// The gradients by atoms, as far as layers have added to them.
#[derive(Default)]
pub struct Sums(BTreeMap<Group, Tensor<2>>);

impl Sums {
    /// Adds the share of one layer.
    pub fn add(&mut self, group: Group, gradient: Tensor<2>) {
        let sum = match self.0.remove(&group) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.0.insert(group, sum);
    }

    /// All of them, in the order of [`tensors`].
    pub fn into_gradients(self) -> impl Iterator<Item = Tensor<2>> {
        self.0.into_values()
    }
}

/// The atoms of all groups, each with its tensor's name.
pub fn tensors(model: &Decoder) -> impl Iterator<Item = (String, Tensor<2>)> + use<> {
    let named = |(group, atoms)| (format!("{}.weight", names::dictionary(group)), atoms);
    by_group(model).into_iter().map(named)
}

/// Replaces the atoms of all groups, in the order of [`tensors`]: the layers of a group read the same memory afterwards.
pub fn set(model: &mut Decoder, values: impl Iterator<Item = Tensor<2>>) {
    let stores = values.map(|value| Store::Float(Param::from_tensor(value)));
    let atoms: BTreeMap<Group, Store> = by_group(model).into_keys().zip(stores).collect();
    each_mixture(model, |mixture| {
        if let Some(atoms) = atoms.get(&mixture.group()) {
            mixture.atoms = atoms.clone();
        }
    });
}

/// Refuses atoms that are rounded, by the name of their tensor.
pub fn check(model: &Decoder) -> Result<()> {
    let mut rounded = mixtures(model).filter(|mixture| mixture.atoms.float().is_none());
    rounded.next().map_or(Ok(()), |mixture| {
        let name = names::dictionary(mixture.group());
        Err(Error::Rounded { name })
    })
}

/// Brings atoms and coefficients to sizes that one rate is right for: the coefficients of an atom to a mean square near 1.
/// The model stays the same to the last bit. Fails where the device does.
pub fn level(model: &mut Decoder) -> Result<()> {
    let mut coefficients: BTreeMap<Group, Vec<Tensor<2>>> = BTreeMap::new();
    for mixture in mixtures(model) {
        let of_layer = mixture.coefficients.float().map(Param::val);
        let of_group = coefficients.entry(mixture.group()).or_default();
        of_group.extend(of_layer);
    }
    let mut powers = BTreeMap::new();
    for (group, layers) in coefficients {
        let layers = Tensor::cat(layers, 0); // layers × S
        let squares = to_host((layers.clone() * layers).mean_dim(0))?;
        let of_group: Vec<f32> = squares.into_iter().map(power).collect();
        powers.insert(group, of_group);
    }
    let row = |group: Group, like: &Tensor<2>| -> Tensor<2> {
        let powers: &Vec<f32> = &powers[&group];
        to_device(powers.clone(), [1, powers.len()], &like.device())
    };
    let scaled: Vec<Tensor<2>> = by_group(model)
        .into_iter()
        .map(|(group, atoms)| {
            let powers = row(group, &atoms).transpose(); // S × 1
            let (shape, count) = (atoms.dims(), powers.dims()[0] as i32);
            let each = atoms.reshape([count, -1]) * powers;
            each.reshape(shape)
        })
        .collect();
    set(model, scaled.into_iter());
    each_mixture(model, |mixture| {
        if let Some(own) = mixture.coefficients.float().map(Param::val) {
            let powers = row(mixture.group(), &own);
            mixture.coefficients = Store::Float(Param::from_tensor(own / powers));
        }
    });
    Ok(())
}

/// The power of two that is nearest to the root of a mean square; 1 where there is none.
fn power(square: f32) -> f32 {
    let power = (square.log2() / 2.0).round().exp2();
    // The logarithm of 0 is infinite.
    if power.is_normal() { power } else { 1.0 }
}

/// The atoms of all groups; rounded ones are left out.
fn by_group(model: &Decoder) -> BTreeMap<Group, Tensor<2>> {
    let atoms = mixtures(model);
    let atoms = atoms.filter_map(|mixture| Some((mixture.group(), mixture.atoms.float()?.val())));
    atoms.collect()
}

/// All weights of blocks that are mixtures.
fn mixtures(model: &Decoder) -> impl Iterator<Item = &Mixture> {
    let blocks = model.blocks.iter();
    let weights = blocks.flat_map(|block| Role::ALL.map(|role| &block.linear(role).weight));
    weights.filter_map(|weight| match weight {
        Weight::Shared(mixture) => Some(mixture),
        _ => None,
    })
}

/// Changes each of them.
fn each_mixture(model: &mut Decoder, mut change: impl FnMut(&mut Mixture)) {
    for block in &mut model.blocks {
        for role in Role::ALL {
            if let Weight::Shared(mixture) = &mut block.linear_mut(role).weight {
                change(mixture);
            }
        }
    }
}
