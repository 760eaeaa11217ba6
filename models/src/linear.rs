//! A linear layer that executes whatever form its weight has.
//!
//! ```text
//! y = W x + b           W: out × in, b: out
//! Whole: W              m·n multiplications per token
//! LowRank: up (down x)  r·(m + n)
//! Sum: base x + up (down x)
//! ```
//!
//! The types mirror those of the contract ([`compress_core::Factor`]): a structure over stores, on a device. No
//! product W = up · down is ever formed, forwards or backwards. Packed integers are multiplied as they are; on the CPU
//! they are decoded for backward passes, and everywhere under autodiff.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use compress_core::{Factor, Form, Shape};

use crate::{Pair, Result, Store};

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
    /// W = Σ cₛ Dₛ, or that plus up · down.
    Shared(Mixed),
}

/// A mixture of atoms that other layers share: it is mixed once, and then costs what any weight does.
#[derive(Module, Debug)]
pub struct Mixed {
    /// out × in. Not trained, since no file has this matrix.
    pub weight: Store,
    /// up · down, of the same shape, where it is to be trained; else it is part of the weight.
    pub residual: Option<Pair>,
    /// The form that files have it in.
    #[module(skip)]
    pub form: Form,
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
        // A mixture's coefficients come before its residual.
        let first = usize::from(matches!(self.weight, Weight::Shared(_)));
        let stores = (first..).zip(self.weight.stores());
        let float = |(place, store): (usize, &Store)| Some((place, store.float()?.val()));
        stores.filter_map(float).collect()
    }

    /// Replaces its trainable matrices, in the order of [`matrices`](Self::matrices); the bias stays.
    pub fn set_matrices(&mut self, values: impl IntoIterator<Item = Tensor<2>>) {
        let stores = self.weight.stores_mut().into_iter();
        let own = stores.filter_map(|store| match store {
            Store::Float(own) => Some(own),
            Store::Packed(_) => None,
        });
        for (own, value) in own.zip(values) {
            *own = Param::from_tensor(value);
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
            Weight::Shared(Mixed { residual, .. }) => {
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
    /// Moves a factor's numbers to a device.
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
                let mixed = compress_core::Store::Float(factor.dense()?);
                Self::Shared(Mixed {
                    weight: store(mixed),
                    residual: None,
                    form: factor.form(),
                })
            }
        })
    }

    /// The same, with the residual of a mixture by itself, so that it can be trained.
    pub fn with_residual(factor: Factor, device: &Device) -> Result<Self> {
        let form = factor.form();
        let Factor::Shared {
            dictionary,
            coefficients,
            residual: Some(pair),
        } = factor
        else {
            return Self::new(factor, device);
        };
        let mixed = dictionary.mixed(&coefficients.floats())?;
        Ok(Self::Shared(Mixed {
            weight: Store::new(compress_core::Store::Float(mixed), device),
            residual: Some(Pair {
                up: Store::new(pair.up, device),
                down: Store::new(pair.down, device),
            }),
            form,
        }))
    }

    /// Output features × input features, whatever the structure.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Whole(store)
            | Self::Sum(Sum { base: store, .. })
            | Self::Shared(Mixed { weight: store, .. }) => store.shape(),
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
            Self::Shared(Mixed { form, .. }) => *form,
        }
    }

    /// Its matrices, in the order of [`Factor::stores`]: base, down, up; of a mixture those of its residual, where that
    /// is by itself.
    #[must_use]
    pub fn stores(&self) -> Vec<&Store> {
        match self {
            Self::Whole(store) => vec![store],
            Self::LowRank(Pair { up, down }) => vec![down, up],
            Self::Sum(Sum { base, correction }) => vec![base, &correction.down, &correction.up],
            Self::Shared(Mixed { residual, .. }) => {
                let pairs = residual.iter();
                pairs.flat_map(|Pair { up, down }| [down, up]).collect()
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
            Self::Shared(Mixed { residual, .. }) => {
                let pairs = residual.iter_mut();
                pairs.flat_map(|Pair { up, down }| [down, up]).collect()
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
            Self::Shared(Mixed {
                weight, residual, ..
            }) => match residual {
                Some(pair) => weight.forward(x.clone()) + pair.forward(x),
                None => weight.forward(x),
            },
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
            Self::Shared(Mixed {
                weight, residual, ..
            }) => match residual {
                Some(pair) => weight.backward(gradient.clone()) + pair.backward(gradient),
                None => weight.backward(gradient),
            },
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
            Self::Shared(Mixed {
                weight, residual, ..
            }) => match residual {
                Some(pair) => Ok(weight.rows(indices, device)? + pair.rows(indices, device)?),
                None => weight.rows(indices, device),
            },
        }
    }
}
