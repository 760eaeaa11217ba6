//! The log-probabilities of a window's next tokens, a few positions at a time.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

use crate::{Error, Result};

/// Logits on the host.
pub struct Logits {
    data: TensorData,
    vocabulary: usize,
}

impl Logits {
    /// Reads them back: positions × vocabulary.
    pub fn new(logits: Tensor<2>) -> Result<Self> {
        let [_, vocabulary] = logits.dims();
        let data = logits.into_data();
        data.as_slice::<f32>()
            .map_err(|e| compress_models::Error::Execution {
                problem: format!("{e:?}"),
            })?;
        Ok(Self { data, vocabulary })
    }

    /// One row of the vocabulary's size for each position.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data
            .as_slice::<f32>()
            .unwrap_or_default()
            .chunks_exact(self.vocabulary)
    }
}

/// Negative log-likelihood of the tokens of a window that a slice of logits predicts; `index` is the
/// window's, for messages.
pub fn loss(logits: &Logits, slice: &Range<usize>, index: usize, window: &[u32]) -> Result<f64> {
    let targets = window.iter().skip(slice.start + 1);
    let rows = logits.rows().zip(targets).zip(slice.clone());
    rows.map(|((row, &target), position)| {
        let chosen = row.get(target as usize).copied().unwrap_or(f32::NAN);
        Ok(log_sum_exp(row, index, position)? - f64::from(chosen))
    })
    .sum()
}

/// log Σ exp of the logits of one position; an error where one of them is not finite.
pub fn log_sum_exp(logits: &[f32], window: usize, position: usize) -> Result<f64> {
    compress_numerics::kernels::log_sum_exp(logits).ok_or(Error::NonFinite { window, position })
}
