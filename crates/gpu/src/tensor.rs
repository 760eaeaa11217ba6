//! From burn's tensors to buffers of the device, and back.

use burn::{
    backend::Cube,
    tensor::{DType, Device, Shape, Tensor},
};
use burn_cubecl::{
    kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use cubecl::prelude::CubeElement as _;

/// The tensor on its GPU, its numbers in row-major order; none where it is elsewhere, under autodiff, or not `f32`.
///
/// A view with other strides is copied, on the device.
pub fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    let tensor = tensor.clone().try_into_primitive::<Cube>().ok()?;
    (tensor.dtype == DType::F32).then(|| into_contiguous(tensor))
}

/// A number on a GPU, for others to be put beside it; none for another device.
pub fn on_gpu(device: &Device) -> Option<CubeTensor> {
    Tensor::<1>::zeros([1], device)
        .try_into_primitive::<Cube>()
        .ok()
}

/// Bytes of the largest buffer that a GPU gives out; none for another device.
#[must_use]
pub fn largest_buffer(device: &Device) -> Option<u64> {
    let client = on_gpu(device)?.client;
    Some(client.properties().memory.max_page_size)
}

/// Words on the GPU of a tensor; one at least, since no buffer is empty.
pub fn words_beside(words: &[u32], like: &CubeTensor) -> CubeTensor {
    let words = if words.is_empty() { &[0] } else { words };
    let handle = like.client.create_from_slice(u32::as_bytes(words));
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(
        client,
        device,
        Shape::from([words.len()]),
        handle,
        DType::U32,
    )
}

/// A tensor without numbers yet, on the device of another.
pub fn empty_beside(like: &CubeTensor, shape: &[usize]) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        Shape::from(shape.to_vec()),
        DType::F32,
    )
}

/// burn's tensor.
pub fn wrap<const D: usize>(tensor: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(tensor)
}
