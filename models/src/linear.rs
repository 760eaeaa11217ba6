//! A linear layer that executes whatever form its weight has.
//!
//! ```text
//! y = W x + b           W: out × in, b: out
//! Whole: W              m·n multiplications per token
//! LowRank: up (down x)  r·(m + n)
//! Sum: base x + up (down x)
//! Shared: see `mixture.rs`
//! ```
//!
//! The types mirror those of the contract ([`compress_core::Factor`]): a structure over stores, on a device. No
//! product W = up · down is ever formed, forwards or backwards. Packed integers are multiplied as they are; on the CPU
//! they are decoded for backward passes, and everywhere under autodiff.

use std::iter;

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use compress_core::{Factor, Form, Shape};

use crate::{Mixture, Pair, Result, Store};

/// A base matrix with a low-rank correction, as LoRC has it.
#[derive(Module, Debug)]
pub struct Sum {
    /// out × in
    pub base: Store,
    /// up · down, of the same shape.
    pub correction: Pair,
}

/// The weight of a linear layer, in the form in which the checkpoint stores it.
#[derive(Module, Debug)]
pub enum Weight {
    /// W: one matrix, out × in.
    Whole(Store),
    /// W = up · down, out × r and r × in.
    LowRank(Pair),
    /// W = base + up · down, all of it out × in.
    Sum(Sum),
    /// W = Σ cₛ Dₛ, or that plus up · down, with atoms that other layers read as well.
    Shared(Mixture),
}

/// A linear layer, y = W x + b.
#[derive(Module, Debug)]
pub struct Linear {
    /// W, in its stored form.
    pub weight: Weight,
    /// b: out numbers; none in most sites of most models.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Applies the layer to the last dimension: … × in to … × out.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let inputs = shape[D - 1];
        // Products are two-dimensional: all leading dimensions become tokens.
        let y = self.weight.forward(x.reshape([-1, inputs as i32])); // tokens × in
        let y = match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        shape[D - 1] = y.dims()[1];
        y.reshape(shape)
    }

    /// A placeholder for a layer that is not loaded: a weight of 1 × 1, which no input fits.
    #[must_use]
    pub fn nothing(device: &Device) -> Self {
        let weight = Tensor::zeros([1, 1], device);
        let weight = Weight::Whole(Store::Float(Param::from_tensor(weight)));
        Self { weight, bias: None }
    }

    /// Puts a factor in the weight's place; the bias stays.
    pub fn replace(&mut self, factor: Factor, device: &Device) -> Result<()> {
        self.weight = Weight::new(factor, device)?;
        Ok(())
    }

    /// Its trainable matrices, each with its index among all stores in the order of [`Factor::stores`].
    ///
    /// Packed matrices are left out, so that indices may have gaps.
    #[must_use]
    pub fn matrices(&self) -> Vec<(usize, Tensor<2>)> {
        let stores = (0..).zip(self.weight.stores());
        let float = |(place, store): (usize, &Store)| Some((place, store.float()?.val()));
        stores.filter_map(float).collect()
    }

    /// Replaces some of its trainable matrices, each by its index; the bias stays.
    pub fn set_matrices(&mut self, values: impl IntoIterator<Item = (usize, Tensor<2>)>) {
        let mut stores = self.weight.stores_mut();
        for (place, value) in values {
            if let Some(Store::Float(own)) = stores.get_mut(place) {
                *own = Param::from_tensor(value);
            }
        }
    }

    /// Gradients by its trainable matrices, in the order of [`matrices`](Self::matrices), from the layer input, … ×
    /// in, and the gradient by the output, … × out; summed over all leading dimensions.
    #[must_use]
    pub fn gradients<const D: usize>(
        &self,
        input: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Vec<Tensor<2>> {
        let flat = |x: Tensor<D>| {
            let width = x.dims()[D - 1];
            x.reshape([-1, width as i32])
        };
        let (x, g): (Tensor<2>, Tensor<2>) = (flat(input), flat(gradient));
        match &self.weight {
            Weight::Whole(store) => store.gradient(&x, &g).into_iter().collect(),
            Weight::LowRank(pair) => pair.gradients(&x, &g),
            Weight::Sum(Sum { base, correction }) => {
                let mut gradients: Vec<_> = base.gradient(&x, &g).into_iter().collect();
                gradients.append(&mut correction.gradients(&x, &g));
                gradients
            }
            Weight::Shared(Mixture { residual, .. }) => {
                let residual = residual.iter();
                residual.flat_map(|pair| pair.gradients(&x, &g)).collect()
            }
        }
    }

    /// The vjp by the layer input: the gradient by it, … × in, from the gradient by the output, … × out.
    #[must_use]
    pub fn backward<const D: usize>(&self, gradient: Tensor<D>) -> Tensor<D> {
        let mut shape = gradient.dims();
        // The bias adds nothing to this gradient.
        let outputs = shape[D - 1];
        let gradient = gradient.reshape([-1, outputs as i32]);
        let gradient = self.weight.backward(gradient);
        shape[D - 1] = gradient.dims()[1];
        gradient.reshape(shape)
    }
}

impl Weight {
    /// Moves a factor's numbers to a device. A mixture is multiplied out, and from then on a whole weight.
    ///
    /// Fails where the parts of a mixture do not fit each other.
    pub fn new(factor: Factor, device: &Device) -> Result<Self> {
        Self::by(factor, |store| Store::new(store, device))
    }

    /// The same where they are not to be trained, see [`Decoder::load_fixed`](crate::Decoder::load_fixed).
    pub(crate) fn fixed(factor: Factor, device: &Device) -> Result<Self> {
        Self::by(factor, |store| Store::fixed(store, device))
    }

    fn by(factor: Factor, store: impl Fn(compress_core::Store) -> Store) -> Result<Self> {
        let pair = |pair: compress_core::Pair| Pair {
            up: store(pair.up),
            down: store(pair.down),
        };
        Ok(match factor {
            Factor::Whole(whole) => Self::Whole(store(whole)),
            Factor::LowRank(factors) => Self::LowRank(pair(factors)),
            Factor::Sum { base, correction } => Self::Sum(Sum {
                base: store(base),
                correction: pair(correction),
            }),
            Factor::Shared { .. } => {
                let mixed = factor.dense()?;
                Self::Whole(store(compress_core::Store::Float(mixed)))
            }
        })
    }

    /// Output features × input features, whatever the structure.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Whole(store) | Self::Sum(Sum { base: store, .. }) => store.shape(),
            Self::Shared(mixture) => mixture.shape(),
            Self::LowRank(Pair { up, down }) => Shape::new(up.shape().rows, down.shape().cols),
        }
    }

    /// The structure, rank and precisions, without the numbers.
    #[must_use]
    pub fn form(&self) -> Form {
        match self {
            Self::Whole(store) => Form::Whole(store.precision()),
            Self::LowRank(pair) => Form::LowRank(pair.form()),
            Self::Sum(Sum { base, correction }) => Form::Sum {
                base: base.precision(),
                correction: correction.form(),
            },
            Self::Shared(mixture) => mixture.form(),
        }
    }

    /// Its matrices, in the order of [`Factor::stores`]: base or coefficients, down, up. A mixture's atoms are not
    /// its own.
    #[must_use]
    pub fn stores(&self) -> Vec<&Store> {
        match self {
            Self::Whole(store) => vec![store],
            Self::LowRank(Pair { up, down }) => vec![down, up],
            Self::Sum(Sum { base, correction }) => vec![base, &correction.down, &correction.up],
            Self::Shared(mixture) => {
                let residual = mixture.residual.iter();
                let residual = residual.flat_map(|Pair { up, down }| [down, up]);
                iter::once(&mixture.coefficients).chain(residual).collect()
            }
        }
    }

    /// The same, to be replaced.
    fn stores_mut(&mut self) -> Vec<&mut Store> {
        match self {
            Self::Whole(store) => vec![store],
            Self::LowRank(Pair { up, down }) => vec![down, up],
            Self::Sum(Sum { base, correction }) => {
                vec![base, &mut correction.down, &mut correction.up]
            }
            Self::Shared(mixture) => {
                let residual = mixture.residual.iter_mut();
                let residual = residual.flat_map(|Pair { up, down }| [down, up]);
                let coefficients = iter::once(&mut mixture.coefficients);
                coefficients.chain(residual).collect()
            }
        }
    }

    /// X Wᵀ: tokens × in to tokens × out.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Whole(store) => store.forward(x),
            Self::LowRank(pair) => pair.forward(x),
            Self::Sum(Sum { base, correction }) => base.forward(x.clone()) + correction.forward(x),
            Self::Shared(mixture) => mixture.forward(x),
        }
    }

    /// ∂L/∂X = ∂L/∂Y · W: tokens × out to tokens × in.
    #[must_use]
    pub fn backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Whole(store) => store.backward(gradient),
            Self::LowRank(pair) => pair.backward(gradient),
            Self::Sum(Sum { base, correction }) => {
                base.backward(gradient.clone()) + correction.backward(gradient)
            }
            Self::Shared(mixture) => mixture.backward(gradient),
        }
    }

    /// The rows of the given indices, rows × in, on a device: the embeddings of tokens.
    ///
    /// Indices must be below the number of rows. Fails where a packed matrix is damaged.
    pub fn rows(&self, indices: &[u32], device: &Device) -> Result<Tensor<2>> {
        match self {
            Self::Whole(store) => store.rows(indices, device),
            Self::LowRank(pair) => pair.rows(indices, device),
            Self::Sum(Sum { base, correction }) => {
                Ok(base.rows(indices, device)? + correction.rows(indices, device)?)
            }
            Self::Shared(mixture) => mixture.rows(indices, device),
        }
    }
}
