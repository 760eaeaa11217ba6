//! One matrix on a device, and a pair of them.
//!
//! The types mirror those of the contract ([`compress_core::Store`], [`compress_core::Pair`]).

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};
use compress_core::{PairForm, Precision, Quantised, Shape};
use compress_numerics::linalg::Right;

use crate::{
    Result, gpu,
    host::to_device,
    product::{dense, product, product_of_packed, product_of_transposed, rows_of_packed},
};

/// One matrix on a device: floats, or packed integers.
#[derive(Module, Debug)]
pub enum Store {
    /// `f32` numbers on the device, which can be trained.
    Float(Param<Tensor<2>>),
    /// Integers of 2, 3, 4 or 8 bits with scales, which stay packed; on a GPU also floats of 16 bits that are not to be
    /// trained.
    Packed(Packed),
}

/// A packed matrix. It has no gradient: its codes are never trained.
#[derive(Module, Debug)]
pub struct Packed {
    /// Where its codes and scales are, shared by clones.
    #[module(skip)]
    place: Place,
}

/// The memory that a packed matrix is in.
#[derive(Clone, Debug)]
enum Place {
    Host(Arc<Quantised>),
    Gpu(Arc<gpu::Packed>),
}

impl Packed {
    /// Moves a matrix to a device.
    fn new(matrix: Quantised, device: &Device) -> Self {
        let gpu = gpu::Packed::new(&matrix, device);
        let place = gpu.map_or_else(
            || Place::Host(Arc::new(matrix)),
            |gpu| Place::Gpu(Arc::new(gpu)),
        );
        Self { place }
    }

    /// Codes and scales, where they are in memory of the host.
    pub(crate) const fn on_host(&self) -> Option<&Arc<Quantised>> {
        match &self.place {
            Place::Host(matrix) => Some(matrix),
            Place::Gpu(_) => None,
        }
    }

    fn shape(&self) -> Shape {
        match &self.place {
            Place::Host(matrix) => matrix.shape(),
            Place::Gpu(matrix) => matrix.shape(),
        }
    }

    fn precision(&self) -> Precision {
        match &self.place {
            Place::Host(matrix) => Precision::Quantised(matrix.scheme()),
            Place::Gpu(matrix) => matrix.precision(),
        }
    }

    /// X Mᵀ. Under autodiff it is decoded for the product.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.place {
            Place::Host(matrix) => product_of_packed(&x, matrix),
            Place::Gpu(matrix) => {
                let product = matrix.forward(&x);
                product.unwrap_or_else(|| product_by_dense(x, matrix, Right::Transposed))
            }
        }
    }

    /// G M. On the CPU it is decoded for it, since the packed kernels there multiply by rows only.
    fn backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        match &self.place {
            Place::Host(matrix) => {
                let matrix = dense(matrix, &gradient.device());
                product(gradient, matrix, Right::AsIs)
            }
            Place::Gpu(matrix) => {
                let product = matrix.backward(&gradient);
                product.unwrap_or_else(|| product_by_dense(gradient, matrix, Right::AsIs))
            }
        }
    }

    /// All of the matrix, decoded, on a device.
    fn dense(&self, device: &Device) -> Tensor<2> {
        match &self.place {
            Place::Host(matrix) => dense(matrix, device),
            Place::Gpu(matrix) => matrix.dense(),
        }
    }

    /// Rows of the matrix, decoded.
    fn rows(&self, indices: &[u32], device: &Device) -> Result<Tensor<2>> {
        match &self.place {
            Place::Host(matrix) => rows_of_packed(matrix, indices, device),
            Place::Gpu(matrix) => Ok(matrix.rows(indices)),
        }
    }
}

/// The product with a matrix on a GPU that is decoded for it.
fn product_by_dense(x: Tensor<2>, matrix: &gpu::Packed, right: Right) -> Tensor<2> {
    product(x, matrix.dense(), right)
}

/// The two factors of a low-rank matrix up · down.
#[derive(Module, Debug)]
pub struct Pair {
    /// out × r
    pub up: Store,
    /// r × in
    pub down: Store,
}

impl Store {
    /// Moves a matrix to a device where it is not to be trained: on a GPU floats stay in 16 bits if these hold them.
    pub(crate) fn fixed(store: compress_core::Store, device: &Device) -> Self {
        if let compress_core::Store::Float(matrix) = &store
            && let Some(matrix) = gpu::Packed::floats(matrix, device)
        {
            let place = Place::Gpu(Arc::new(matrix));
            return Self::Packed(Packed { place });
        }
        Self::new(store, device)
    }

    /// Moves a matrix to a device.
    pub(crate) fn new(store: compress_core::Store, device: &Device) -> Self {
        match store {
            compress_core::Store::Float(matrix) => {
                let shape = [matrix.rows(), matrix.cols()];
                let matrix = to_device(matrix.into_data(), shape, device);
                Self::Float(Param::from_tensor(matrix))
            }
            compress_core::Store::Quantised(matrix) => Self::Packed(Packed::new(matrix, device)),
        }
    }

    /// Rows × columns.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Float(matrix) => {
                let [rows, cols] = matrix.dims();
                Shape::new(rows, cols)
            }
            Self::Packed(packed) => packed.shape(),
        }
    }

    /// The precision of its numbers, for the weight's form.
    pub(crate) fn precision(&self) -> Precision {
        match self {
            Self::Float(_) => Precision::Float,
            Self::Packed(packed) => packed.precision(),
        }
    }

    /// The parameter, where its numbers are floats and so can be trained.
    #[must_use]
    pub const fn float(&self) -> Option<&Param<Tensor<2>>> {
        match self {
            Self::Float(matrix) => Some(matrix),
            Self::Packed(_) => None,
        }
    }

    /// The matrix in floats, on its device; without a copy where it is kept so.
    pub(crate) fn dense(&self, device: &Device) -> Tensor<2> {
        match self {
            Self::Float(matrix) => matrix.val(),
            Self::Packed(packed) => packed.dense(device),
        }
    }

    /// X Mᵀ for M, rows × columns.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Float(matrix) => product(x, matrix.val(), Right::Transposed),
            Self::Packed(packed) => packed.forward(x),
        }
    }

    /// G M.
    pub(crate) fn backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Float(matrix) => product(gradient, matrix.val(), Right::AsIs),
            Self::Packed(packed) => packed.backward(gradient),
        }
    }

    /// ∂L/∂M = Gᵀ X, summed over tokens; none where the matrix is packed, as floats of 16 bits are on a GPU that were not
    /// loaded to be trained.
    pub(crate) fn gradient(&self, x: &Tensor<2>, g: &Tensor<2>) -> Option<Tensor<2>> {
        // A product per matrix: not computed for one that cannot be trained.
        let trained = self.float().is_some();
        trained.then(|| product_of_transposed(g.clone(), x.clone()))
    }

    /// Rows of the matrix, decoded where it is packed.
    pub(crate) fn rows(&self, indices: &[u32], device: &Device) -> Result<Tensor<2>> {
        match self {
            Self::Float(matrix) => Ok(selected(matrix.val(), indices, device)),
            Self::Packed(packed) => packed.rows(indices, device),
        }
    }
}

impl Pair {
    /// Rank and precisions.
    pub(crate) fn form(&self) -> PairForm {
        PairForm {
            rank: self.down.shape().rows,
            up: self.up.precision(),
            down: self.down.precision(),
        }
    }

    /// (X downᵀ) upᵀ, in 2 r (m + n) operations per token.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.up.forward(self.down.forward(x))
    }

    /// (G up) down.
    pub(crate) fn backward(&self, gradient: Tensor<2>) -> Tensor<2> {
        self.down.backward(self.up.backward(gradient))
    }

    /// Rows of up · down: those of up, times down.
    pub(crate) fn rows(&self, indices: &[u32], device: &Device) -> Result<Tensor<2>> {
        Ok(self.down.backward(self.up.rows(indices, device)?))
    }

    /// ∂L/∂down = (G up)ᵀ X and ∂L/∂up = Gᵀ (X downᵀ), as far as each is trainable: tokens × r numbers between them,
    /// and no product of the weight's size.
    pub(crate) fn gradients(&self, x: &Tensor<2>, g: &Tensor<2>) -> Vec<Tensor<2>> {
        let (down, up) = (self.down.float(), self.up.float());
        let by_down = down.map(|_| product_of_transposed(self.up.backward(g.clone()), x.clone()));
        let by_up = up.map(|_| product_of_transposed(g.clone(), self.down.forward(x.clone())));
        by_down.into_iter().chain(by_up).collect()
    }
}

/// Rows of a float matrix, on a device.
pub fn selected(matrix: Tensor<2>, rows: &[u32], device: &Device) -> Tensor<2> {
    let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let count = rows.len();
    let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [count]), device);
    matrix.select(0, rows)
}
