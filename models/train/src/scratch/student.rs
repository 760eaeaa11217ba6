//! The network that is trained: from its matrices to a decoder that runs, and to the factors that are stored.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use burn::{
    module::{Param, ParamId},
    nn::RmsNorm,
};
use compress_checkpoint::{
    Checkpoint, Config,
    names::{self, NormSite},
};
use compress_core::{
    Dictionary, DictionaryForm, Factor, Form, Matrix, PairForm, Precision, Role, Site,
};
use compress_models::{Decoder, Device, Pair, Store, Tensor, Weight, to_host};

use super::{
    attention::{Attention, ROLES, Size, Structure},
    mixing::{self, Matrices, matrix},
    parts::{Part, norms, pair, parts},
};

/// A network whose attention is made in one of the ways.
pub struct Student {
    /// The way.
    pub attention: Attention,
    /// Its sizes.
    pub size: Size,
    /// Its config, with every weight whole.
    pub config: Config,
    /// What is trained, in the order of names.
    pub parts: Vec<Part>,
}

impl Student {
    /// The network of a size.
    pub fn new(attention: Attention, size: Size) -> Result<Self> {
        let config = attention.config(&size)?;
        let parts = parts(attention, &size, &config);
        Ok(Self {
            attention,
            size,
            config,
            parts,
        })
    }

    /// The names of its matrices.
    pub fn names(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.name.clone()).collect()
    }

    /// Its matrices before the first step.
    pub fn initial(&self, seed: u64) -> Vec<Tensor<2>> {
        self.parts.iter().map(|part| part.initial(seed)).collect()
    }

    /// Matrices in the order of the parts, by their names.
    pub fn named(&self, values: &[Tensor<2>]) -> Matrices {
        let names = self.parts.iter().map(|part| part.name.clone());
        names.zip(values.iter().cloned()).collect()
    }

    /// The form in which a weight of a block is stored.
    pub fn form(&self, site: Site) -> Form {
        let float = Precision::Float;
        let structure = site
            .role()
            .map(|role| (role, self.attention.structure(role)));
        match structure {
            Some((_, Structure::LowRank)) => Form::LowRank(PairForm {
                rank: self.size.rank(),
                up: float,
                down: float,
            }),
            Some((role, Structure::Shared)) => Form::Shared {
                dictionary: DictionaryForm {
                    group: mixing::group(role),
                    atoms: self.size.atoms,
                    precision: float,
                },
                residual: None,
            },
            _ => Form::Whole(float),
        }
    }

    /// Parameters of attention's weights, as they are stored: atoms once, coefficients, everything else.
    pub fn attention_parameters(&self) -> usize {
        let sites = Site::blocks(self.size.layers);
        let sites = sites.filter(|site| site.role().is_some_and(|role| ROLES.contains(&role)));
        let own = |site| self.form(site).parameters(self.config.weight_shape(site));
        let atoms = self
            .parts
            .iter()
            .filter(|part| names::is_of_dictionary(&part.name));
        let atoms = atoms.map(|part| part.shape.iter().product::<usize>());
        sites.map(own).sum::<usize>() + atoms.sum::<usize>()
    }

    /// Parameters of the network as it is stored.
    pub fn parameters(&self) -> usize {
        let shape = |site| self.config.weight_shape(site).size();
        let feed_forward = [Role::Gate, Role::Up, Role::Down].map(|role| shape(Site::new(0, role)));
        let norms = norms(self.size.layers).count() * self.size.hidden;
        self.attention_parameters()
            + self.size.layers * feed_forward.iter().sum::<usize>()
            + shape(Site::Embedding)
            + norms
    }

    /// Everything but numbers of a decoder, from a folder that has one of these sizes.
    pub fn frame(folder: &Path) -> Result<Decoder> {
        Ok(Decoder::load(&Checkpoint::open(folder)?, &Device::flex())?)
    }

    /// The decoder of the matrices. Under autodiff its weights are part of their graph: gradients go back through it to
    /// atoms and coefficients.
    pub fn decoder(&self, frame: &Decoder, of: &Matrices) -> Result<Decoder> {
        let mut model = frame.clone();
        model.embedding = whole(matrix(of, &names::weight(Site::Embedding))?);
        set(&mut model.norm, NormSite::Last, of)?;
        for (layer, block) in model.blocks.iter_mut().enumerate() {
            set(&mut block.attention_norm, NormSite::Attention(layer), of)?;
            let norm = &mut block.feed_forward_norm;
            set(norm, NormSite::FeedForward(layer), of)?;
        }
        for role in Role::ALL {
            for (block, weight) in model.blocks.iter_mut().zip(self.weights(role, of)?) {
                block.linear_mut(role).weight = weight;
            }
        }
        Ok(model)
    }

    /// The weights of a role in all layers.
    fn weights(&self, role: Role, of: &Matrices) -> Result<Vec<Weight>> {
        let sites = (0..self.size.layers).map(|layer| Site::new(layer, role));
        match self.attention.structure(role) {
            Structure::Whole => {
                let weights = sites.map(|site| matrix(of, &names::weight(site)).map(whole));
                weights.collect()
            }
            Structure::LowRank => {
                let weight = |site| {
                    let [down, up] = pair(site);
                    let [down, up] = [store(matrix(of, &down)?), store(matrix(of, &up)?)];
                    Ok(Weight::LowRank(Pair { up, down }))
                };
                sites.map(weight).collect()
            }
            Structure::Shared => {
                let coefficients = self.coefficients(role, of)?;
                let stacked = matrix(of, &mixing::atoms(role))?;
                let weights = mixing::mixed(&coefficients, stacked);
                Ok(weights.into_iter().map(whole).collect())
            }
        }
    }

    /// The coefficients of a role, L × S.
    pub fn coefficients(&self, role: Role, of: &Matrices) -> Result<Tensor<2>> {
        mixing::coefficients(self.attention, &self.size, role, of)
    }

    /// The atoms of a role, as they are stored.
    pub fn dictionary(&self, role: Role, of: &Matrices) -> Result<Dictionary> {
        let stacked = host(matrix(of, &mixing::atoms(role))?)?;
        Ok(Dictionary {
            group: mixing::group(role),
            atoms: self.size.atoms,
            stacked: compress_core::Store::Float(stacked),
        })
    }

    /// The weights of a role in all layers, as they are stored.
    pub fn factors(&self, role: Role, of: &Matrices) -> Result<Vec<Factor>> {
        let sites = (0..self.size.layers).map(|layer| Site::new(layer, role));
        match self.attention.structure(role) {
            Structure::Whole => {
                let weight = |site| Ok(Factor::whole(host(matrix(of, &names::weight(site))?)?));
                sites.map(weight).collect()
            }
            Structure::LowRank => {
                let weight = |site| {
                    let [down, up] = pair(site);
                    let [down, up] = [host(matrix(of, &down)?)?, host(matrix(of, &up)?)?];
                    Ok(Factor::low_rank(up, down))
                };
                sites.map(weight).collect()
            }
            Structure::Shared => {
                let dictionary = Arc::new(self.dictionary(role, of)?);
                let coefficients = to_host(self.coefficients(role, of)?)?;
                let rows = coefficients.chunks_exact(self.size.atoms);
                let weight = |row: &[f32]| {
                    let row = Matrix::new(1, row.len(), row.to_vec())?;
                    Ok(Factor::Shared {
                        dictionary: dictionary.clone(),
                        coefficients: compress_core::Store::Float(row),
                        residual: None,
                    })
                };
                rows.map(weight).collect()
            }
        }
    }
}

/// A matrix on the host.
pub fn host(matrix: Tensor<2>) -> Result<Matrix> {
    let [rows, cols] = matrix.dims();
    Ok(Matrix::new(rows, cols, to_host(matrix)?)?)
}

/// A tensor in the place of a parameter: not a leaf of its own, so that it stays in the graph that it comes from.
fn store(tensor: Tensor<2>) -> Store {
    Store::Float(Param::initialized(ParamId::new(), tensor))
}

fn whole(tensor: Tensor<2>) -> Weight {
    Weight::Whole(store(tensor))
}

/// The same for a norm, whose gain is stored as 1 × its size.
fn set(norm: &mut RmsNorm, site: NormSite, of: &Matrices) -> Result<()> {
    let gain = matrix(of, &names::norm(site))?.squeeze_dim(0);
    norm.gamma = Param::initialized(ParamId::new(), gain);
    Ok(())
}
