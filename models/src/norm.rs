//! Root-mean-square normalisation (Zhang & Sennrich, arXiv 1910.07467).
//!
//! ```text
//! y = x / √(mean x² + ε) ⊙ gain
//! ```
//!
//! burn divides and multiplies in two sweeps with strides, which took a twentieth of a pass through a network.

use burn::{nn::RmsNorm, tensor::Tensor};
use compress_numerics::kernels::divide_and_scale;

use crate::host::{numbers, plain, tensor};

/// Normalises the last dimension, with the bits of [`RmsNorm::forward`].
#[must_use]
pub fn rms_norm<const D: usize>(norm: &RmsNorm, x: Tensor<D>) -> Tensor<D> {
    // Not for a GPU, nor under autodiff.
    let ours = || {
        let (plain_x, gain) = (plain(&x)?, plain(&norm.gamma.val())?);
        // Another width is left to burn, which says what is wrong.
        let gain = numbers(&gain).filter(|gain| gain.len() == x.dims()[D - 1])?;
        let mut y = numbers(&plain_x)?.to_vec();
        let roots = (x.clone().square().mean_dim(D - 1) + norm.epsilon).sqrt();
        let roots = plain(&roots)?;
        divide_and_scale(&mut y, numbers(&roots)?, gain);
        Some(tensor(y, x.dims()))
    };
    ours().unwrap_or_else(|| norm.forward(x))
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::RmsNormConfig,
        tensor::{Device, Distribution},
    };

    use super::*;

    #[test]
    fn the_bits_are_those_of_burn() {
        let device = Device::flex();
        for width in [1, 7, 64, 576] {
            let norm = RmsNormConfig::new(width).init(&device);
            let x = Tensor::<3>::random([2, 5, width], Distribution::Normal(0.0, 2.0), &device);
            let bits = |x: Tensor<3>| x.into_data().try_into_vec::<f32>().unwrap();
            assert_eq!(bits(rms_norm(&norm, x.clone())), bits(norm.forward(x)));
        }
    }
}
