//! Matrix products, by our own kernel on the CPU.
//!
//! burn-flex shares each product between all cores, which costs when every core has a window of its
//! own already; and it reaches nine tenths of the speed of the kernel used here.

use burn::{
    backend::flex::FlexTensor,
    tensor::{Device, Tensor, TensorData},
};
use compress_core::{
    Quantised, Shape,
    linalg::{Right, Slab, product_of_slabs, product_of_transposed_slabs},
    packed,
};

use crate::{
    Result,
    host::{numbers, plain, tensor},
};

/// Below this many rows, burn's matrix–vector kernel is the faster.
const ROWS: usize = 8;

/// x · W, or x · Wᵀ.
pub fn product(x: Tensor<2>, weight: Tensor<2>, right: Right) -> Tensor<2> {
    // A tensor on a GPU, or one that is differentiated, is not to be had as a plain one.
    if x.dims()[0] >= ROWS {
        let [rows, cols] = weight.dims();
        let outputs = match right {
            Right::AsIs => cols,
            Right::Transposed => rows,
        };
        let kernel = |x: Slab<'_>, weight: Slab<'_>| product_of_slabs(x, weight, right);
        if let Some(product) = ours(&x, &weight, kernel, [x.dims()[0], outputs]) {
            return product;
        }
    }
    match right {
        Right::AsIs => x.matmul(weight),
        Right::Transposed => x.matmul(weight.transpose()),
    }
}

/// xᵀ · y, m × n from t × m and t × n.
pub fn product_of_transposed(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let shape = [x.dims()[1], y.dims()[1]];
    let ours = ours(&x, &y, product_of_transposed_slabs, shape);
    ours.unwrap_or_else(|| x.transpose().matmul(y))
}

/// x · Wᵀ for a weight that stays packed; multiplied out first where x is not on the CPU.
pub fn product_of_packed(x: &Tensor<2>, weight: &Quantised) -> Tensor<2> {
    let ours = || {
        let x = plain(x)?;
        let x = slab(&x)?;
        let product = packed::product_of_packed(x, weight.packed().ok()?).ok()?;
        Some(tensor(product, [x.shape().rows, weight.shape().rows]))
    };
    ours().unwrap_or_else(|| x.clone().matmul(dense(weight, x).transpose()))
}

/// A packed weight multiplied out, on the device of a tensor.
pub fn dense(weight: &Quantised, like: &Tensor<2>) -> Tensor<2> {
    let matrix = weight.dense();
    let shape = [matrix.rows(), matrix.cols()];
    Tensor::from_data(TensorData::new(matrix.into_data(), shape), &like.device())
}

/// Some rows of a packed weight as numbers, on a device.
pub fn rows_of_packed(weight: &Quantised, rows: &[u32], device: &Device) -> Result<Tensor<2>> {
    let shape = [rows.len(), weight.shape().cols];
    let weight = weight.packed().map_err(compress_checkpoint::Error::from)?;
    let rows = rows.iter().flat_map(|row| weight.row(*row as usize));
    let numbers = TensorData::new(rows.collect::<Vec<_>>(), shape);
    Ok(Tensor::from_data(numbers, device))
}

/// By a kernel on the host; none where a tensor does not lie row after row, in `f32`, on the CPU.
fn ours(
    a: &Tensor<2>,
    b: &Tensor<2>,
    kernel: impl FnOnce(Slab<'_>, Slab<'_>) -> compress_core::Result<Vec<f32>>,
    shape: [usize; 2],
) -> Option<Tensor<2>> {
    let (a, b) = (plain(a)?, plain(b)?);
    let product = kernel(slab(&a)?, slab(&b)?).ok()?;
    Some(tensor(product, shape))
}

fn slab(tensor: &FlexTensor) -> Option<Slab<'_>> {
    let layout = tensor.layout();
    let shape = Shape::new(layout.shape()[0], layout.shape()[1]);
    Slab::new(numbers(tensor)?, shape).ok()
}
