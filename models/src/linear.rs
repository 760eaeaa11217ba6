//! A linear layer that executes whatever form its weight has.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};
use compress_core::{Correction, Factor, Matrix, Quantised, Shape, linalg::Right};

use crate::{
    Result,
    product::{dense, product, product_of_packed, product_of_transposed, rows_of_packed},
};

/// The weight of a linear layer, in the form in which it is stored.
#[derive(Module, Debug)]
pub enum Weight {
    /// W: out × in.
    Whole(Param<Tensor<2>>),
    /// W = up · down.
    LowRank(LowRank),
    /// The same, both packed.
    RoundedPair(RoundedPair),
    /// W = Q + up · down.
    Rounded(Rounded),
}

/// Two thin factors of a weight.
#[derive(Module, Debug)]
pub struct LowRank {
    /// out × r
    pub up: Param<Tensor<2>>,
    /// r × in
    pub down: Param<Tensor<2>>,
}

/// Two thin factors of few bits, which stay packed.
#[derive(Module, Debug)]
pub struct RoundedPair {
    /// out × r
    #[module(skip)]
    pub up: Arc<Quantised>,
    /// r × in
    #[module(skip)]
    pub down: Arc<Quantised>,
}

/// A weight of few bits, which stays packed, and a correction.
#[derive(Module, Debug)]
pub struct Rounded {
    /// Q; no numbers of it are ever trained.
    #[module(skip)]
    pub base: Arc<Quantised>,
    /// What rounding lost; none where that is let go.
    pub correction: Option<LowRank>,
}

/// y = W x + b
#[derive(Module, Debug)]
pub struct Linear {
    /// W, in its stored form.
    pub weight: Weight,
    /// b: out.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Applies the layer to the last dimension: … × in to … × out.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let inputs = shape[D - 1];
        let y = self.weight.forward(x.reshape([-1, inputs as i32])); // tokens × in
        let y = match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        shape[D - 1] = y.dims()[1];
        y.reshape(shape)
    }

    /// The place of a layer that is not loaded: it gives nothing of use.
    #[must_use]
    pub fn nothing(device: &Device) -> Self {
        let weight = Weight::Whole(Param::from_tensor(Tensor::zeros([1, 1], device)));
        Self { weight, bias: None }
    }

    /// Puts a factor in the weight's place.
    pub fn replace(&mut self, factor: Factor, device: &Device) {
        self.weight = Weight::new(factor, device);
    }

    /// Its matrices of floating-point numbers, each with the suffix that its tensor has after the module's name.
    #[must_use]
    pub fn matrices(&self) -> Vec<(&'static str, Tensor<2>)> {
        match &self.weight {
            Weight::Whole(weight) => vec![("weight", weight.val())],
            Weight::LowRank(LowRank { up, down }) => {
                vec![("down.weight", down.val()), ("up.weight", up.val())]
            }
            Weight::RoundedPair(_) => Vec::new(),
            Weight::Rounded(Rounded { correction, .. }) => match correction {
                Some(LowRank { up, down }) => {
                    vec![("lora_A.weight", down.val()), ("lora_B.weight", up.val())]
                }
                None => Vec::new(),
            },
        }
    }

    /// Puts matrices in the place of its own, in the order of [`matrices`](Self::matrices).
    pub fn set_matrices(&mut self, values: impl IntoIterator<Item = Tensor<2>>) {
        let own: Vec<&mut Param<Tensor<2>>> = match &mut self.weight {
            Weight::Whole(weight) => vec![weight],
            Weight::LowRank(LowRank { up, down })
            | Weight::Rounded(Rounded {
                correction: Some(LowRank { up, down }),
                ..
            }) => vec![down, up],
            Weight::RoundedPair(_) | Weight::Rounded(_) => Vec::new(),
        };
        for (own, value) in own.into_iter().zip(values) {
            *own = Param::from_tensor(value);
        }
    }

    /// The gradients by its matrices, in their order, from what went in, … × in, and the gradient by
    /// what came out, … × out.
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
            Weight::Whole(_) => vec![product_of_transposed(g, x)],
            Weight::RoundedPair(_)
            | Weight::Rounded(Rounded {
                correction: None, ..
            }) => Vec::new(),
            Weight::LowRank(LowRank { up, down })
            | Weight::Rounded(Rounded {
                correction: Some(LowRank { up, down }),
                ..
            }) => {
                let inner = times(x.clone(), down); // tokens × r
                let by_inner = product(g.clone(), up.val(), Right::AsIs);
                vec![
                    product_of_transposed(by_inner, x),
                    product_of_transposed(g, inner),
                ]
            }
        }
    }

    /// From gradients by the outputs to gradients by the inputs: … × out to … × in.
    #[must_use]
    pub fn backward<const D: usize>(&self, gradient: Tensor<D>) -> Tensor<D> {
        let mut shape = gradient.dims();
        let outputs = shape[D - 1];
        let gradient = gradient.reshape([-1, outputs as i32]);
        let gradient = self.weight.backward(gradient);
        shape[D - 1] = gradient.dims()[1];
        gradient.reshape(shape)
    }
}

impl Weight {
    /// A factor's numbers, on a device.
    #[must_use]
    pub fn new(factor: Factor, device: &Device) -> Self {
        let parameter = |matrix: Matrix| {
            let shape = [matrix.rows(), matrix.cols()];
            let data = TensorData::new(matrix.into_data(), shape);
            Param::from_tensor(Tensor::from_data(data, device))
        };
        match factor {
            Factor::Whole(weight) => Self::Whole(parameter(weight)),
            Factor::LowRank { up, down } => Self::LowRank(LowRank {
                up: parameter(up),
                down: parameter(down),
            }),
            Factor::RoundedPair { up, down } => Self::RoundedPair(RoundedPair {
                up: Arc::new(up),
                down: Arc::new(down),
            }),
            Factor::Rounded { base, correction } => Self::Rounded(Rounded {
                base: Arc::new(base),
                correction: correction.map(|Correction { up, down }| LowRank {
                    up: parameter(up),
                    down: parameter(down),
                }),
            }),
        }
    }

    /// Output features × input features.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Whole(weight) => {
                let [rows, cols] = weight.dims();
                Shape::new(rows, cols)
            }
            Self::LowRank(LowRank { up, down }) => Shape::new(up.dims()[0], down.dims()[1]),
            Self::RoundedPair(RoundedPair { up, down }) => {
                Shape::new(up.shape().rows, down.shape().cols)
            }
            Self::Rounded(Rounded { base, .. }) => base.shape(),
        }
    }

    /// x · Wᵀ: tokens × in to tokens × out.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Whole(weight) => times(x, weight),
            Self::LowRank(LowRank { up, down }) => times(times(x, down), up),
            Self::RoundedPair(RoundedPair { up, down }) => {
                product_of_packed(&product_of_packed(&x, down), up)
            }
            Self::Rounded(Rounded { base, correction }) => {
                let y = product_of_packed(&x, base);
                match correction {
                    Some(LowRank { up, down }) => y + times(times(x, down), up),
                    None => y,
                }
            }
        }
    }

    /// From gradients by the outputs to gradients by the inputs: tokens × out to tokens × in.
    #[must_use]
    pub fn backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Whole(weight) => product(gradient, weight.val(), Right::AsIs),
            Self::LowRank(pair) => pair.backward(gradient),
            Self::RoundedPair(RoundedPair { up, down }) => {
                let inner = product(gradient.clone(), dense(up, &gradient), Right::AsIs);
                product(inner, dense(down, &gradient), Right::AsIs)
            }
            Self::Rounded(Rounded { base, correction }) => {
                let back = product(gradient.clone(), dense(base, &gradient), Right::AsIs);
                match correction {
                    Some(pair) => back + pair.backward(gradient),
                    None => back,
                }
            }
        }
    }

    /// Some of its rows, which must be there, on a device: rows × in.
    pub fn rows(&self, indices: &[u32], device: &Device) -> Result<Tensor<2>> {
        Ok(match self {
            Self::Whole(weight) => selected(weight, indices, device),
            Self::LowRank(pair) => pair.rows(indices, device),
            Self::RoundedPair(RoundedPair { up, down }) => {
                let rows = rows_of_packed(up, indices, device)?;
                product(rows.clone(), dense(down, &rows), Right::AsIs)
            }
            Self::Rounded(Rounded { base, correction }) => {
                let rows = rows_of_packed(base, indices, device)?;
                match correction {
                    Some(pair) => rows + pair.rows(indices, device),
                    None => rows,
                }
            }
        })
    }
}

impl LowRank {
    fn rows(&self, indices: &[u32], device: &Device) -> Tensor<2> {
        let rows = selected(&self.up, indices, device);
        product(rows, self.down.val(), Right::AsIs)
    }

    fn backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        let inner = product(gradient, self.up.val(), Right::AsIs);
        product(inner, self.down.val(), Right::AsIs)
    }
}

fn selected(weight: &Param<Tensor<2>>, rows: &[u32], device: &Device) -> Tensor<2> {
    let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let count = rows.len();
    let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [count]), device);
    weight.val().select(0, rows)
}

/// x · Wᵀ
fn times(x: Tensor<2>, weight: &Param<Tensor<2>>) -> Tensor<2> {
    product(x, weight.val(), Right::Transposed)
}
