//! From a checkpoint's tensors to layers on a device, whole or layer by layer.
//!
//! Every float is checked on the way in: a NaN or an infinity is an error that names its tensor, since one of them
//! would spread over all results. Numbers become `f32`, packed ones stay packed, and on a GPU floats of 16 bits that are not
//! to be trained stay so.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use burn::{
    module::Param,
    nn::{RmsNorm, RmsNormConfig},
    tensor::{Device, Tensor, TensorData},
};
use compress_checkpoint::{
    Checkpoint, Config, Head,
    names::{self, NormSite},
};
use compress_core::{Dictionaries as _, DictionaryForm, Form, Group, Role, Site, Store};

use crate::{
    Attention, Block, Decoder, Error, FeedForward, Linear, Mixture, Mixtures, Pair, Result, Rotary,
    Weight, gpu, store as on_device,
};

impl Decoder {
    /// Loads every weight in the form in which it is stored, floats as `f32`: 4 bytes per parameter.
    ///
    /// Fails where a tensor is missing or damaged, has another shape than the config says, or holds a number that is
    /// not finite.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Loader::new(checkpoint, device).decoder()
    }

    /// The same, to be run and not trained: on a GPU, floats that 16 bits hold exactly take no more. On the CPU there
    /// is no difference.
    pub fn load_fixed(
        checkpoint: &Checkpoint,
        mixtures: Mixtures,
        device: &Device,
    ) -> Result<Self> {
        let fixed = Loader::fixed(checkpoint, device);
        let loader = Loader { mixtures, ..fixed };
        loader.decoder()
    }

    /// As [`load`](Self::load), with mixtures that stay what they are: the only way to train what they are made of.
    pub fn load_shared(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let loader = Loader {
            mixtures: Mixtures::Shared,
            ..Loader::new(checkpoint, device)
        };
        loader.decoder()
    }

    /// Loads embedding, last norm and head, without blocks, for callers that load one block at a time.
    pub fn load_ends(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Loader::new(checkpoint, device).ends()
    }
}

impl Block {
    /// Loads one block of a checkpoint; fails as [`Decoder::load`] does.
    pub fn load(checkpoint: &Checkpoint, layer: usize, device: &Device) -> Result<Self> {
        Loader::new(checkpoint, device).block(layer)
    }

    /// A block of which only the norms are loaded: its linear layers are placeholders until
    /// [`load_linear`](Self::load_linear) fills them.
    pub fn frame(checkpoint: &Checkpoint, layer: usize, device: &Device) -> Result<Self> {
        Loader::new(checkpoint, device).frame(layer)
    }

    /// Loads one of its linear layers, weight and bias.
    pub fn load_linear(
        &mut self,
        checkpoint: &Checkpoint,
        (layer, role): (usize, Role),
        device: &Device,
    ) -> Result<()> {
        let site = Site::new(layer, role);
        *self.linear_mut(role) = Loader::new(checkpoint, device).linear(site)?;
        Ok(())
    }

    /// Frees one of its linear layers: a placeholder takes its place.
    pub fn unload_linear(&mut self, role: Role, device: &Device) {
        *self.linear_mut(role) = Linear::nothing(device);
    }
}

/// Reads layers of one checkpoint to one device, and checks that all of their numbers are finite.
pub struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a Config,
    device: &'a Device,
    /// Whether weights are run only, and never trained.
    fixed: bool,
    /// What becomes of mixtures.
    mixtures: Mixtures,
    /// Atoms that are on the device already, by the weights that share them.
    atoms: RefCell<BTreeMap<Group, on_device::Store>>,
    /// Bytes of the largest buffer that the device has; none on the CPU.
    largest_buffer: Option<u64>,
}

impl<'a> Loader<'a> {
    /// A loader from a checkpoint to a device.
    pub fn new(checkpoint: &'a Checkpoint, device: &'a Device) -> Self {
        Self {
            checkpoint,
            config: checkpoint.config(),
            device,
            fixed: false,
            mixtures: Mixtures::default(),
            atoms: RefCell::default(),
            largest_buffer: gpu::largest_buffer(device),
        }
    }

    /// The same for weights that are run only.
    pub fn fixed(checkpoint: &'a Checkpoint, device: &'a Device) -> Self {
        Self {
            fixed: true,
            ..Self::new(checkpoint, device)
        }
    }

    fn decoder(&self) -> Result<Decoder> {
        let blocks = 0..self.config.layers;
        let blocks = blocks.map(|layer| self.block(layer));
        Ok(Decoder {
            blocks: blocks.collect::<Result<_>>()?,
            ..self.ends()?
        })
    }

    /// Embedding, last norm and head.
    fn ends(&self) -> Result<Decoder> {
        let head = |weight| Linear { weight, bias: None };
        let untied = (self.config.head == Head::Own).then(|| self.weight(Site::Head));
        Ok(Decoder {
            embedding: self.weight(Site::Embedding)?,
            blocks: Vec::new(),
            norm: self.last_norm()?,
            head: untied.transpose()?.map(head),
            rotary: Rotary::new(self.config)?,
            policy: self.checkpoint.cache_policy().cloned().map(Arc::new),
        })
    }

    /// A block, whole.
    pub fn block(&self, layer: usize) -> Result<Block> {
        let mut block = self.frame(layer)?;
        for role in Role::ALL {
            *block.linear_mut(role) = self.linear(Site::new(layer, role))?;
        }
        Ok(block)
    }

    /// A block with its norms, and placeholders for its linear layers.
    fn frame(&self, layer: usize) -> Result<Block> {
        let hidden = self.config.hidden;
        let nothing = || Linear::nothing(self.device);
        Ok(Block {
            attention_norm: self.norm(NormSite::Attention(layer), hidden)?,
            attention: self.attention(layer)?,
            feed_forward_norm: self.norm(NormSite::FeedForward(layer), hidden)?,
            feed_forward: FeedForward {
                gate: nothing(),
                up: nothing(),
                down: nothing(),
            },
        })
    }

    /// The attention layer of a block with its head norms, where the config has these, and placeholders.
    fn attention(&self, layer: usize) -> Result<Attention> {
        let config = self.config;
        let nothing = || Linear::nothing(self.device);
        let head_norm = |norm: NormSite| {
            let norm = || self.norm(norm, config.head_size);
            config.query_key_norm.then(norm).transpose()
        };
        Ok(Attention {
            query: nothing(),
            key: nothing(),
            value: nothing(),
            output: nothing(),
            query_norm: head_norm(NormSite::Query(layer))?,
            key_norm: head_norm(NormSite::Key(layer))?,
            heads: config.heads,
            key_value_heads: config.key_value_heads,
            head_size: config.head_size,
            window: config.sliding_window,
        })
    }

    /// A linear layer of a site: its weight, and a bias where the config says so.
    fn linear(&self, site: Site) -> Result<Linear> {
        let weight = self.weight(site)?;
        let bias = || self.vector(&self.checkpoint.bias_name(site));
        let bias = self.config.has_bias(site).then(bias).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// The weight of a site on the device, in its stored form, or a mixture multiplied out.
    pub fn weight(&self, site: Site) -> Result<Weight> {
        let (form, stores) = self.checkpoint.stores(site)?;
        for (module, store) in names::modules(site, form).iter().zip(&stores) {
            self.check(module, store)?;
        }
        if let Form::Shared { dictionary, .. } = form
            && self.mixtures == Mixtures::Shared
        {
            return self.mixture(dictionary, stores);
        }
        let factor = self.checkpoint.joined(site, stores)?;
        if let Some(atoms) = factor.dictionary() {
            check_numbers(&names::dictionary(atoms.group), &atoms.stacked)?;
        }
        if self.fixed {
            Weight::fixed(factor, self.device)
        } else {
            Weight::new(factor, self.device)
        }
    }

    /// A mixture of atoms that all weights of their group share, from its own matrices.
    fn mixture(&self, dictionary: DictionaryForm, stores: Vec<Store>) -> Result<Weight> {
        let mut own = stores.into_iter();
        let coefficients = own.next().map(|store| Store::Float(store.dense()));
        let residual = own.next().zip(own.next()).map(|(down, up)| Pair {
            up: self.store(up),
            down: self.store(down),
        });
        // Every form of a mixture has them.
        let Some(coefficients) = coefficients else {
            let (group, problem) = (dictionary.group, "a weight has no coefficients");
            return Err(compress_core::Error::Dictionary { group, problem }.into());
        };
        Ok(Weight::Shared(Mixture {
            atoms: self.atoms(dictionary.group)?,
            // Few, and read as numbers at every product.
            coefficients: on_device::Store::new(coefficients, self.device),
            residual,
            dictionary,
        }))
    }

    /// The atoms of a group, one copy on the device for all that ask.
    fn atoms(&self, group: Group) -> Result<on_device::Store> {
        if let Some(atoms) = self.atoms.borrow().get(&group) {
            return Ok(atoms.clone());
        }
        // Read for this, and so not copied.
        let atoms = Arc::unwrap_or_clone(self.checkpoint.dictionary(group)?).stacked;
        self.check(&names::dictionary(group), &atoms)?;
        let atoms = self.store(atoms);
        self.atoms.borrow_mut().insert(group, atoms.clone());
        Ok(atoms)
    }

    /// Moves a matrix to the device.
    fn store(&self, store: Store) -> on_device::Store {
        if self.fixed {
            on_device::Store::fixed(store, self.device)
        } else {
            on_device::Store::new(store, self.device)
        }
    }

    /// Refuses a matrix with a number that is not finite, and one that no buffer of the device holds.
    fn check(&self, module: &str, store: &Store) -> Result<()> {
        self.check_size(module, store)?;
        check_numbers(module, store)
    }

    /// Refuses a matrix that no buffer of the device holds.
    fn check_size(&self, module: &str, store: &Store) -> Result<()> {
        let Some(most) = self.largest_buffer else {
            return Ok(());
        };
        let mut bytes = match store {
            Store::Float(matrix) => size_of::<f32>() * matrix.shape().size(),
            Store::Quantised(matrix) => size_of_val(matrix.words()),
        };
        if bytes as u64 > most
            && let Store::Float(matrix) = store
            && self.fixed
            && gpu::fits_16_bits(matrix.data())
        {
            bytes /= 2;
        }
        if bytes as u64 <= most {
            return Ok(());
        }
        Err(Error::Buffer {
            name: format!("{module}.weight"),
            bytes,
            most,
        })
    }

    /// The norm before the head.
    pub fn last_norm(&self) -> Result<RmsNorm> {
        self.norm(NormSite::Last, self.config.hidden)
    }

    /// A root-mean-square norm with the config's ε.
    fn norm(&self, norm: NormSite, size: usize) -> Result<RmsNorm> {
        let config = RmsNormConfig::new(size).with_epsilon(self.config.norm_epsilon);
        Ok(RmsNorm {
            gamma: self.vector(&names::norm(norm))?,
            ..config.init(self.device)
        })
    }

    /// A one-dimensional tensor: a norm's gain, or a bias.
    fn vector(&self, name: &str) -> Result<Param<Tensor<1>>> {
        let numbers = self.checkpoint.numbers(name)?;
        if let Some(&value) = numbers.iter().find(|x| !x.is_finite()) {
            let name = name.into();
            return Err(Error::NonFinite { name, value });
        }
        let data = TensorData::from(numbers.as_slice());
        Ok(Param::from_tensor(Tensor::from_data(data, self.device)))
    }
}

/// Refuses a matrix of floats with a number that is not finite.
fn check_numbers(module: &str, store: &Store) -> Result<()> {
    if let Store::Float(matrix) = store
        && let Some((.., value)) = matrix.first_non_finite()
    {
        let name = format!("{module}.weight");
        return Err(Error::NonFinite { name, value });
    }
    Ok(())
}
