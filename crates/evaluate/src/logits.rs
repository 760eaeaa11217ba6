//! From a window to the log-probabilities of its next tokens, a few positions at a time.

use burn::tensor::Tensor;
use compress_models::Decoder;

use crate::{Error, Result};

/// How many logits are held at a time: 32 MiB of them.
const LOGITS: usize = 1 << 23;

/// Calls `take(first position, logits)` for successive slices of a window, positions × vocabulary.
/// The last position, which predicts nothing in the window, is left out.
pub fn for_each_slice(
    decoder: &Decoder,
    window: &[u32],
    mut take: impl FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let hidden = decoder.hidden(&[window])?;
    let [_, time, width] = hidden.dims();
    let hidden: Tensor<2> = hidden.reshape([time, width]);
    let step = (LOGITS / decoder.vocabulary()).max(1);
    for first in (0..time - 1).step_by(step) {
        let slice = hidden.clone().narrow(0, first, step.min(time - 1 - first));
        let data = decoder.logits(slice).into_data();
        let logits = data.as_slice::<f32>().map_err(|e| compress_models::Error::Execution { problem: format!("{e:?}") })?;
        take(first, logits)?;
    }
    Ok(())
}

/// log Σ exp of the logits of one position; an error where one of them is not finite.
pub fn log_sum_exp(logits: &[f32], window: usize, position: usize) -> Result<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.chunks(4096).map(|part| part.iter().map(|x| (x - largest).exp()).sum::<f32>()).sum();
    let result = f64::from(largest) + f64::from(sum).ln();
    // A NaN anywhere makes the sum NaN, an infinity makes the difference NaN or the maximum infinite.
    if result.is_finite() { Ok(result) } else { Err(Error::NonFinite { window, position }) }
}
