//! Matrix products, by our own kernel on the CPU.
//!
//! burn-flex shares each product between all cores, which costs when every core has a window of its
//! own already; and it reaches nine tenths of the speed of the kernel used here.

use burn::{
    backend::{
        Flex,
        flex::{FlexTensor, Layout},
    },
    tensor::{Bytes, DType, Tensor},
};
use compress_core::{
    Shape,
    linalg::{Right, Slab, product_of_slabs},
};

/// Below this many rows, burn's matrix–vector kernel is the faster.
const ROWS: usize = 8;

/// x · W, or x · Wᵀ.
pub fn product(x: Tensor<2>, weight: Tensor<2>, right: Right) -> Tensor<2> {
    // A tensor on a GPU, or one that is differentiated, is not to be had as a plain one.
    if x.dims()[0] >= ROWS {
        let primitive = |tensor: &Tensor<2>| tensor.clone().try_into_primitive::<Flex>().ok();
        let ours = |x, weight| ours(&x, &weight, right);
        if let Some(product) = primitive(&x)
            .zip(primitive(&weight))
            .and_then(|(x, w)| ours(x, w))
        {
            return product;
        }
    }
    match right {
        Right::AsIs => x.matmul(weight),
        Right::Transposed => x.matmul(weight.transpose()),
    }
}

/// None where a tensor does not lie row after row, in `f32`.
fn ours(x: &FlexTensor, weight: &FlexTensor, right: Right) -> Option<Tensor<2>> {
    let (a, b) = (slab(x)?, slab(weight)?);
    let numbers = product_of_slabs(a, b, right).ok()?;
    let rows = x.layout().shape()[0];
    let shape = [rows, numbers.len() / rows];
    let layout = Layout::contiguous(shape.into());
    let product = FlexTensor::new(Bytes::from_elems(numbers), layout, DType::F32);
    Some(Tensor::from_primitive::<Flex>(product))
}

fn slab(tensor: &FlexTensor) -> Option<Slab<'_>> {
    let layout = tensor.layout();
    if tensor.dtype() != DType::F32 || !layout.is_contiguous() {
        return None;
    }
    let numbers = tensor.storage::<f32>().get(layout.start_offset()..)?;
    let shape = Shape::new(layout.shape()[0], layout.shape()[1]);
    Slab::new(numbers, shape).ok()
}
