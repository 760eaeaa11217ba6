//! From a window to the log-probabilities of its next tokens, a few positions at a time.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use compress_models::Decoder;

use crate::{Error, Result};

/// A window after the last norm of a model, ready for its head.
pub struct Predictions<'a> {
    decoder: &'a Decoder,
    hidden: Tensor<2>, // time × hidden
}

impl<'a> Predictions<'a> {
    /// Runs the blocks over a window.
    pub fn of(decoder: &'a Decoder, window: &[u32]) -> Result<Self> {
        let hidden = decoder.hidden(&[window])?;
        let [_, time, width] = hidden.dims();
        Ok(Self {
            decoder,
            hidden: hidden.reshape([time, width]),
        })
    }

    /// Slices of the positions that predict a token of the window: all but the last.
    pub fn slices(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        self.decoder.slices(self.hidden.dims()[0].saturating_sub(1))
    }

    /// The logits of a slice, positions × vocabulary.
    pub fn logits(&self, slice: Range<usize>) -> Result<Logits> {
        let hidden = self.hidden.clone().narrow(0, slice.start, slice.len());
        let data = self.decoder.logits(hidden).into_data();
        let vocabulary = self.decoder.vocabulary();
        data.as_slice::<f32>()
            .map_err(|e| compress_models::Error::Execution {
                problem: format!("{e:?}"),
            })?;
        Ok(Logits { data, vocabulary })
    }
}

/// Logits on the host.
pub struct Logits {
    data: TensorData,
    vocabulary: usize,
}

impl Logits {
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
    compress_core::log_sum_exp(logits).ok_or(Error::NonFinite { window, position })
}
