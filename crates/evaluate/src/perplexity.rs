//! Perplexity of a model over windows of text.
//!
//! ```text
//! perplexity = exp(loss),  loss = −1/N Σ log p(token | tokens before it in its window)
//! standard error = perplexity · √( W/(W − 1) Σ_w (L_w − loss · N_w)² ) / N
//!     L_w, N_w: summed loss and tokens of window w, of W in all
//! ```
//!
//! Windows are the sample, since losses of neighbouring tokens go together.

use compress_models::{Decoder, Network};
use serde::Serialize;

use crate::{Pass, Result, Source};

/// A perplexity and its cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Perplexity {
    /// exp of the loss.
    pub perplexity: f64,
    /// The standard error of the perplexity, by the spread between windows; one window has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// The mean negative log-likelihood per token, in nats.
    #[serde(skip)]
    pub loss: f64,
    /// The number of scored tokens.
    pub tokens: usize,
    /// Wall time of the forward passes. Where several models run at once, this model's share.
    pub seconds: f64,
    /// Scored tokens per second of wall time.
    pub tokens_per_second: f64,
}

impl Perplexity {
    /// From the sum of negative log-likelihoods of each window, with its tokens.
    pub(crate) fn new(windows: &[(f64, usize)], seconds: f64) -> Self {
        let tokens: usize = windows.iter().map(|(_, tokens)| tokens).sum();
        let loss: f64 = windows.iter().map(|(loss, _)| loss).sum();
        let tokens_per_second = tokens as f64 / seconds;
        let loss = loss / tokens as f64;
        Self {
            perplexity: loss.exp(),
            standard_error: spread(windows, loss).map(|error| loss.exp() * error),
            loss,
            tokens,
            seconds,
            tokens_per_second,
        }
    }
}

/// The standard error of the mean loss per token, a ratio of two sums over windows; the second sum, that of tokens,
/// has no spread where windows are equally long.
fn spread(windows: &[(f64, usize)], loss: f64) -> Option<f64> {
    let count = windows.len() as f64;
    let tokens: f64 = windows.iter().map(|(_, tokens)| *tokens as f64).sum();
    let squares = windows
        .iter()
        .map(|(sum, n)| (sum - loss * *n as f64).powi(2));
    let variance = squares.sum::<f64>() * count / (count - 1.0);
    (windows.len() > 1).then(|| variance.sqrt() / tokens)
}

impl Pass<'_> {
    /// Perplexity of one network over the windows of the pass. Fails where a block cannot be loaded
    /// or a logit is not finite.
    pub fn perplexity(&self, network: &dyn Network) -> Result<Perplexity> {
        let found = self.score(&[Source::Network(network)])?.pop();
        Ok(found.map(|found| found.score).unwrap_or_default())
    }
}

/// Perplexity of a model that is in memory; windows run in parallel on the CPU. `done` is called
/// with the number of tokens completed since its last call.
pub fn perplexity(
    decoder: &Decoder,
    windows: &[Vec<u32>],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Perplexity> {
    let pass = Pass {
        windows,
        // Not used, as the model is in memory.
        batch: 1,
        split: None,
        done,
    };
    pass.perplexity(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_error_is_that_of_the_mean_of_equal_windows() {
        // Losses per token of 1, 2 and 3: mean 2, standard deviation 1, so 1 / √3.
        let found = Perplexity::new(&[(10.0, 10), (20.0, 10), (30.0, 10)], 1.0);
        let expected = 2.0_f64.exp() / 3.0_f64.sqrt();
        assert!((found.standard_error.unwrap() - expected).abs() < 1e-9);
    }

    #[test]
    fn windows_with_the_same_loss_per_token_have_no_spread_whatever_their_length() {
        let found = Perplexity::new(&[(10.0, 5), (40.0, 20)], 1.0);
        assert!(found.standard_error.unwrap() < 1e-9);
        assert_eq!(Perplexity::new(&[(10.0, 5)], 1.0).standard_error, None);
    }
}
