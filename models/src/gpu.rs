//! The kernels of `compress-gpu`; a program that is built without them has no tensor that they would take.

#[cfg(feature = "wgpu")]
pub use compress_gpu::{Packed, attend, fits_16_bits, largest_buffer};
#[cfg(not(feature = "wgpu"))]
pub use without::{Packed, attend, fits_16_bits, largest_buffer};

#[cfg(not(feature = "wgpu"))]
mod without {
    use burn::tensor::{Device, Tensor};
    use compress_core::{Matrix, Precision, Quantised, Shape};

    /// A packed weight on a GPU: there is none.
    #[derive(Clone, Debug)]
    pub enum Packed {}

    impl Packed {
        pub const fn new(_: &Quantised, _: &Device) -> Option<Self> {
            None
        }

        pub const fn floats(_: &Matrix, _: &Device) -> Option<Self> {
            None
        }

        pub const fn shape(&self) -> Shape {
            match *self {}
        }

        pub const fn precision(&self) -> Precision {
            match *self {}
        }

        pub const fn forward(&self, _: &Tensor<2>) -> Option<Tensor<2>> {
            match *self {}
        }

        pub const fn backward(&self, _: &Tensor<2>) -> Option<Tensor<2>> {
            match *self {}
        }

        pub const fn rows(&self, _: &[u32]) -> Tensor<2> {
            match *self {}
        }

        pub const fn dense(&self) -> Tensor<2> {
            match *self {}
        }
    }

    pub const fn fits_16_bits(_: &[f32]) -> bool {
        false
    }

    pub const fn largest_buffer(_: &Device) -> Option<u64> {
        None
    }

    pub const fn attend(
        _: &Tensor<4>,
        _: &Tensor<4>,
        _: &Tensor<4>,
        _: Option<usize>,
    ) -> Option<Tensor<3>> {
        None
    }
}
