//! Matrix products, by our own kernel on the CPU.
//!
//! burn-flex shares each product between all cores, which costs time when every core has a window of its own already;
//! and it reaches nine tenths of the speed of the kernel used here. Tensors on a GPU or under autodiff go to burn.

use burn::{
    backend::flex::FlexTensor,
    tensor::{Device, Tensor},
};
use compress_core::{Quantised, Shape};
use compress_numerics::{
    kernels::multiply_rows,
    linalg::{Right, Slab, product_by_panels, product_of_slabs, product_of_transposed_slabs},
    packed,
};

use crate::{
    Result,
    host::{numbers, plain, tensor, to_device},
};

/// Below this many rows, burn's matrix–vector kernel is the faster.
const ROWS: usize = 8;

/// X W or X Wᵀ, with X of tokens × its columns.
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

/// Xᵀ Y, m × n from t × m and t × n: gradients by weights.
pub fn product_of_transposed(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let shape = [x.dims()[1], y.dims()[1]];
    let ours = ours(&x, &y, product_of_transposed_slabs, shape);
    ours.unwrap_or_else(|| x.transpose().matmul(y))
}

/// X Wᵀ for a packed weight, tokens × out, by its kernel on the CPU; elsewhere the weight is decoded for the product.
pub fn product_of_packed(x: &Tensor<2>, weight: &Quantised) -> Tensor<2> {
    let ours = || {
        let x = plain(x)?;
        let x = slab(&x)?;
        let product = packed::product_of_packed(x, weight.packed().ok()?).ok()?;
        Some(tensor(product, [x.shape().rows, weight.shape().rows]))
    };
    ours().unwrap_or_else(|| x.clone().matmul(dense(weight, &x.device()).transpose()))
}

/// Numbers in a panel of rows that are decoded at a time: 512 KiB, half of a core's second-level cache.
const PANEL: usize = 1 << 17;

/// Rows in a panel for burn's kernel, which takes another order of summation for 64 rows and fewer.
const WIDE: usize = 1 << 11;

/// X Wᵀ, tokens × outputs, for several X of one width and a weight that is never in memory as a whole: `decode(first,
/// rows)` writes W's rows from `first` on, as many as fill `rows`.
///
/// The weight is decoded once for all X of [`ROWS`] tokens or more, panel by panel, and once more for each smaller
/// one. Each X is multiplied by the kernel that would multiply it by the whole weight; those sum over the inputs in
/// an order that does not depend on the number of outputs, so that the products are the same bit for bit. Fails where
/// `decode` does.
pub fn product_of_rows(
    x: &[Tensor<2>],
    outputs: usize,
    decode: impl Fn(usize, &mut [f32]) -> Result<()> + Sync,
) -> Result<Vec<Tensor<2>>> {
    let on_host: Vec<Option<FlexTensor>> = x.iter().map(plain).collect();
    // As in `product`: few rows are left to burn, so that both paths give the same bits.
    let slabs: Vec<Option<Slab<'_>>> = on_host
        .iter()
        .map(|tensor| slab(tensor.as_ref()?).filter(|x| x.shape().rows >= ROWS))
        .collect();
    let many: Vec<Slab<'_>> = slabs.iter().flatten().copied().collect();
    let panel = many.first().map_or(1, |x| PANEL / x.shape().cols.max(1));
    let mut many = if many.is_empty() {
        Vec::new()
    } else {
        product_by_panels(&many, outputs, panel, &decode)?
    }
    .into_iter();
    let each = x.iter().zip(&slabs).map(|(x, slab)| {
        let product = slab.and_then(|_| many.next());
        product.map_or_else(
            || few_rows(x, outputs, &decode),
            |product| Ok(tensor(product, [x.dims()[0], outputs])),
        )
    });
    each.collect()
}

/// The same for one X of few tokens, or on another device.
fn few_rows(
    x: &Tensor<2>,
    outputs: usize,
    decode: &impl Fn(usize, &mut [f32]) -> Result<()>,
) -> Result<Tensor<2>> {
    let [rows, inputs] = x.dims();
    let alone = if rows == 1 { plain(x) } else { None };
    // Panels of equal size: a last one of few rows would be summed in another order.
    let panels = outputs.div_ceil(WIDE);
    let start = |panel: usize| panel * outputs / panels;
    let parts = (0..panels).map(|panel| {
        let (first, count) = (start(panel), start(panel + 1) - start(panel));
        let mut panel = vec![0.0; count * inputs];
        decode(first, &mut panel)?;
        // One token is multiplied row by row, by the kernel of decoding.
        if let Some(x) = alone.as_ref().and_then(numbers) {
            let mut part = vec![0.0; count];
            multiply_rows(&panel, x, &mut part);
            return Ok(tensor(part, [1, count]));
        }
        let panel = to_device(panel, [count, inputs], &x.device());
        Ok(x.clone().matmul(panel.transpose()))
    });
    Ok(Tensor::cat(parts.collect::<Result<Vec<_>>>()?, 1))
}

/// A packed weight decoded to floats, on a device: 4 bytes per number, for one product.
pub fn dense(weight: &Quantised, device: &Device) -> Tensor<2> {
    let matrix = weight.dense();
    let shape = [matrix.rows(), matrix.cols()];
    to_device(matrix.into_data(), shape, device)
}

/// Rows of a packed weight, decoded, on a device; fails where the packed layout is damaged.
pub fn rows_of_packed(weight: &Quantised, rows: &[u32], device: &Device) -> Result<Tensor<2>> {
    let shape = [rows.len(), weight.shape().cols];
    let weight = weight.packed().map_err(compress_checkpoint::Error::from)?;
    let rows = rows.iter().flat_map(|row| weight.row(*row as usize));
    Ok(to_device(rows.collect(), shape, device))
}

/// A product by a kernel on the CPU; none where a tensor is not contiguous `f32` there, or the kernel refuses shapes.
fn ours(
    a: &Tensor<2>,
    b: &Tensor<2>,
    kernel: impl FnOnce(Slab<'_>, Slab<'_>) -> compress_numerics::Result<Vec<f32>>,
    shape: [usize; 2],
) -> Option<Tensor<2>> {
    let (a, b) = (plain(a)?, plain(b)?);
    let product = kernel(slab(&a)?, slab(&b)?).ok()?;
    Some(tensor(product, shape))
}

/// The kernels' view of a contiguous matrix.
fn slab(tensor: &FlexTensor) -> Option<Slab<'_>> {
    let layout = tensor.layout();
    let shape = Shape::new(layout.shape()[0], layout.shape()[1]);
    Slab::new(numbers(tensor)?, shape).ok()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn rows_decoded_on_demand_give_the_products_of_the_whole_weight_bit_for_bit() {
        let device = Device::flex();
        for (inputs, outputs) in [(64, 500), (576, 4097), (1536, 2051), (600, 219), (1000, 1)] {
            let random = |rows| {
                let normal = Distribution::Normal(0.0, 1.0);
                Tensor::<2>::random([rows, inputs], normal, &device)
            };
            let weight = random(outputs);
            let numbers = |x: Tensor<2>| x.into_data().try_into_vec::<f32>().unwrap();
            let all = numbers(weight.clone());
            let decode = |first: usize, rows: &mut [f32]| {
                rows.copy_from_slice(&all[first * inputs..][..rows.len()]);
                Ok(())
            };
            let x = [85, 3, 2, 7, 8, 9, 27].map(random);
            let whole = || x.iter().map(|x| times(x, &weight)).collect::<Vec<_>>();
            let by_rows = || product_of_rows(&x, outputs, decode).unwrap();
            // On all cores, and within a pool of threads.
            let in_pool = |work: &(dyn Fn() -> Vec<Tensor<2>> + Sync)| rayon::join(work, || ()).0;
            let pairs = [
                (whole(), by_rows()),
                (in_pool(&whole), in_pool(&by_rows)),
                (whole(), in_pool(&by_rows)),
            ];
            for (whole, by_rows) in pairs {
                for (whole, by_rows) in whole.into_iter().zip(by_rows) {
                    let rows = whole.dims()[0];
                    assert!(
                        numbers(whole) == numbers(by_rows),
                        "{rows} × {inputs} × {outputs}"
                    );
                }
            }
        }
    }

    fn times(x: &Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        product(x.clone(), weight.clone(), Right::Transposed)
    }
}
