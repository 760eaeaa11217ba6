//! From burn's tensors to buffers of the device, and back.

use burn::{
    backend::Cube,
    tensor::{DType, Device, Int, Shape, Tensor, TensorData},
};
use burn_cubecl::{
    kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};

/// The tensor on its GPU, its numbers in row-major order; none where it is elsewhere, under autodiff, or not `f32`.
///
/// A view with other strides is copied, on the device.
pub fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    let tensor = tensor.clone().try_into_primitive::<Cube>().ok()?;
    (tensor.dtype == DType::F32).then(|| into_contiguous(tensor))
}

/// Words on a GPU, one at least, since no buffer is empty; none for another device.
pub fn words(mut words: Vec<u32>, device: &Device) -> Option<CubeTensor> {
    if words.is_empty() {
        words.push(0);
    }
    let words: Vec<i32> = words.into_iter().map(u32::cast_signed).collect();
    let count = words.len();
    let words = Tensor::<1, Int>::from_data(TensorData::new(words, [count]), device);
    words.try_into_primitive::<Cube>().ok()
}

/// Bytes of the largest buffer that a GPU gives out; none for another device.
#[must_use]
pub fn largest_buffer(device: &Device) -> Option<u64> {
    let tensor = words(Vec::new(), device)?;
    Some(tensor.client.properties().memory.max_page_size)
}

/// The same beside a tensor that is on a GPU.
pub fn words_beside(words: &[u32], like: &CubeTensor) -> CubeTensor {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let handle = like.client.create_from_slice(&bytes);
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
