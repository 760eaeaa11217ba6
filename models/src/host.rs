//! Conversions between burn's tensors and the plain numbers that kernels on the CPU take.

use std::ops::Range;

use burn::{
    backend::{
        Flex,
        flex::{FlexTensor, Layout},
    },
    tensor::{Bytes, DType, Device, Tensor, TensorData},
};

use compress_core::Shape;
use compress_numerics::linalg::Slab;

use crate::{Error, Result};

/// The tensor of the CPU backend, without a copy; none where it is on a GPU, under autodiff, or not `f32`.
///
/// Whether a kernel of ours can do an operation is decided by this everywhere.
pub fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    (tensor.dtype() == DType::F32).then_some(tensor)
}

/// The tensor's numbers in row-major order, without a copy; none where it is a view with other strides.
pub fn numbers(tensor: &FlexTensor) -> Option<&[f32]> {
    let layout = tensor.layout();
    if !layout.is_contiguous() {
        return None;
    }
    let start = layout.start_offset();
    let size: usize = layout.shape().iter().product();
    tensor.storage::<f32>().get(start..start + size)
}

/// The numbers of a tensor in row-major order, copied from its device; fails where the device does, or the tensor is
/// not `f32`.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let failed = |problem| Error::Execution { problem };
    let data = tensor.try_into_data().map_err(|e| failed(e.to_string()))?;
    data.try_into_vec().map_err(|e| failed(format!("{e:?}")))
}

/// A tensor on a device from its numbers in row-major order, as many as the shape has.
#[must_use]
pub fn to_device<const D: usize>(
    numbers: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// A tensor of the CPU backend from its numbers in row-major order; takes the vector over without a copy.
pub fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let layout = Layout::contiguous(shape.into());
    let tensor = FlexTensor::new(Bytes::from_elems(numbers), layout, DType::F32);
    Tensor::from_primitive::<Flex>(tensor)
}

/// A tensor of text × head × time × d as it lies in memory, the d channels contiguous.
pub struct Strided<'a> {
    numbers: &'a [f32],
    /// From one text, head and time step to the next, in numbers.
    strides: [usize; 3],
}

impl<'a> Strided<'a> {
    /// None where the channels are not contiguous, or a stride is negative.
    pub fn of(tensor: &'a FlexTensor) -> Option<Self> {
        let layout = tensor.layout();
        let strides: Vec<usize> = layout
            .strides()
            .iter()
            .filter_map(|&s| s.try_into().ok())
            .collect();
        // Text, head and time may have any strides: heads that were split from a projection are read in place.
        let [text, head, time, 1] = strides[..] else {
            return None;
        };
        Some(Self {
            numbers: tensor.storage::<f32>().get(layout.start_offset()..)?,
            strides: [text, head, time],
        })
    }

    /// Some time steps of one head, time × d, without a copy.
    pub fn rows(
        &self,
        text: usize,
        head: usize,
        times: &Range<usize>,
        size: usize,
    ) -> Option<Slab<'a>> {
        let [by_text, by_head, by_time] = self.strides;
        let start = text * by_text + head * by_head + times.start * by_time;
        let shape = Shape::new(times.len(), size);
        Slab::strided(self.numbers.get(start..)?, shape, by_time).ok()
    }
}
