//! The matrices that are trained: names, shapes, and what they start as.

use compress_checkpoint::{
    Config,
    names::{self, NormSite},
};
use compress_core::{Role, Site};
use compress_models::{Device, Tensor, to_device};
use compress_numerics::Random;

use super::{
    attention::{Attention, ROLES, Size, Structure},
    mixing,
};

/// A matrix that is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// That of its tensor, where a file has it.
    pub name: String,
    /// Rows × columns.
    pub shape: [usize; 2],
    /// Its numbers before the first step.
    pub start: Start,
}

/// The numbers of a matrix before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Normal ones of this standard deviation.
    Normal(f32),
    /// All the same.
    Same(f32),
}

impl Part {
    /// A matrix of a name and a shape.
    pub const fn new(name: String, shape: [usize; 2], start: Start) -> Self {
        Self { name, shape, start }
    }

    /// Its numbers before the first step. They depend on seed and name alone: what two networks both have starts the
    /// same in both.
    pub fn initial(&self, seed: u64) -> Tensor<2> {
        let mut random = random(seed, &self.name);
        let count = self.shape.iter().product();
        let numbers = match self.start {
            Start::Normal(scale) => (0..count).map(|_| scale * random.normal()).collect(),
            Start::Same(number) => vec![number; count],
        };
        to_device(numbers, self.shape, &Device::flex())
    }
}

/// Pseudo-random numbers of a seed for one purpose (FNV-1a of both).
pub fn random(seed: u64, of: &str) -> Random {
    let bytes = seed.to_le_bytes().into_iter().chain(of.bytes());
    Random(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// All that is trained of a network, in the order of names.
pub fn parts(attention: Attention, size: &Size, config: &Config) -> Vec<Part> {
    let mut all: Vec<Part> = Site::blocks(size.layers)
        .flat_map(|site| of_weight(attention, size, config, site))
        .collect();
    let embedding = config.weight_shape(Site::Embedding);
    let shape = [embedding.rows, embedding.cols];
    let name = names::weight(Site::Embedding);
    // As large as what a block adds to the residual stream: else blocks would see little of the tokens for long.
    let start = Start::Normal((embedding.cols as f32).sqrt().recip());
    all.push(Part::new(name, shape, start));
    let norms = norms(size.layers);
    let norm = |norm| Part::new(names::norm(norm), [1, size.hidden], Start::Same(1.0));
    all.extend(norms.map(norm));
    let shared = ROLES
        .into_iter()
        .filter(|&role| attention.structure(role) == Structure::Shared);
    let learnt = shared.filter(|_| attention.atom(0, size).is_none());
    all.extend(mixing::parts(&learnt.collect::<Vec<_>>(), size));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The norms of a network.
pub fn norms(layers: usize) -> impl Iterator<Item = NormSite> {
    (0..layers)
        .flat_map(|layer| [NormSite::Attention(layer), NormSite::FeedForward(layer)])
        .chain([NormSite::Last])
}

/// The matrices of a weight of a block; those of a mixture come with the first layer.
fn of_weight(attention: Attention, size: &Size, config: &Config, site: Site) -> Vec<Part> {
    let (Some(layer), Some(role)) = (site.layer(), site.role()) else {
        return Vec::new();
    };
    let shape = config.weight_shape(site);
    // As in GPT-2: layers that write to the residual stream start smaller by √(2 L), so that its size does not grow
    // with depth.
    let deep = if matches!(role, Role::Output | Role::Down) {
        (2.0 * size.layers as f32).sqrt().recip()
    } else {
        1.0
    };
    // Every structure starts with weights of variance 1 / inputs.
    let scale = (shape.cols as f32).sqrt().recip();
    let part = |name, rows, cols, scale| Part::new(name, [rows, cols], Start::Normal(scale));
    match attention.structure(role) {
        Structure::Whole => {
            let name = names::weight(site);
            vec![part(name, shape.rows, shape.cols, deep * scale)]
        }
        Structure::LowRank => {
            let [down, up] = pair(site);
            let rank = size.rank();
            let thin = deep * (rank as f32).sqrt().recip();
            vec![
                part(down, rank, shape.cols, scale),
                part(up, shape.rows, rank, thin),
            ]
        }
        Structure::Shared if layer == 0 => {
            let rows = size.atoms * shape.rows;
            vec![part(mixing::atoms(role), rows, shape.cols, deep * scale)]
        }
        Structure::Shared => Vec::new(),
    }
}

/// The names of a pair's matrices, down and up.
pub fn pair(site: Site) -> [String; 2] {
    let module = names::module(site);
    ["down", "up"].map(|part| format!("{module}.{part}.weight"))
}
