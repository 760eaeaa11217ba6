//! Between burn's tensors and the numbers of kernels on the host.

use burn::{
    backend::{
        Flex,
        flex::{FlexTensor, Layout},
    },
    tensor::{Bytes, DType, Device, Tensor, TensorData},
};

use crate::{Error, Result};

/// The tensor without burn's wrapping; none where it is on a GPU, differentiated, or not of `f32`.
pub fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    (tensor.dtype() == DType::F32).then_some(tensor)
}

/// Its numbers; none where they do not lie one after the other.
pub fn numbers(tensor: &FlexTensor) -> Option<&[f32]> {
    let layout = tensor.layout();
    if !layout.is_contiguous() {
        return None;
    }
    let start = layout.start_offset();
    let size: usize = layout.shape().iter().product();
    tensor.storage::<f32>().get(start..start + size)
}

/// The numbers of a tensor, wherever it is; an error where its device fails.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let numbers = tensor.into_data().try_into_vec();
    numbers.map_err(|e| Error::Execution {
        problem: format!("{e:?}"),
    })
}

/// A tensor on a device from its numbers, the last dimension together.
#[must_use]
pub fn to_device<const D: usize>(
    numbers: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// A tensor on the CPU from its numbers, the last dimension together.
pub fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let layout = Layout::contiguous(shape.into());
    let tensor = FlexTensor::new(Bytes::from_elems(numbers), layout, DType::F32);
    Tensor::from_primitive::<Flex>(tensor)
}
