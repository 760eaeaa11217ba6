//! KL divergence of a model's predictions from the original's, token by token.
//!
//! ```text
//! KL = Σ_v p(v) · (log p(v) − log q(v)),  p of the original, q of the other model, v over the vocabulary
//! ```

use compress_models::Network;
use serde::Serialize;

use crate::{Error, Pass, Perplexity, Result, Source};

/// Statistics of the KL divergence over all scored tokens, in nats.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Divergence {
    /// The mean.
    pub mean: f64,
    /// The median over tokens.
    pub median: f64,
    /// The 99th percentile: damage that a mean over many easy tokens hides.
    pub p99: f64,
    /// The largest of all tokens.
    pub max: f64,
    /// Share of tokens, 0 to 1, for which both models have the same argmax.
    pub same_top: f64,
}

/// The scores of a model that was compared with an original.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scored {
    /// Its own perplexity.
    pub score: Perplexity,
    /// Its divergence from the original.
    pub kl: Divergence,
}

/// The result of a comparison over the same windows.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The perplexity of the original.
    pub original: Perplexity,
    /// The other models, in the order in which they were given.
    pub others: Vec<Scored>,
}

impl Pass<'_> {
    /// Runs an original and other models over the same windows. The original's logits are computed
    /// once for all of them. Fails where vocabularies differ, a block cannot be loaded, or a logit
    /// is not finite.
    pub fn compare(&self, original: Source<'_>, others: &[&dyn Network]) -> Result<Comparison> {
        let others = others.iter().map(|other| Source::Network(*other));
        let sources: Vec<Source<'_>> = std::iter::once(original).chain(others).collect();
        let mut found = self.score(&sources)?.into_iter();
        let original = found.next().map(|found| found.score).unwrap_or_default();
        let others = found.map(|found| Scored {
            score: found.score,
            kl: found.kl,
        });
        Ok(Comparison {
            original,
            others: others.collect(),
        })
    }
}

/// KL of one position, from two rows of logits. Exact to about 10⁻⁶, since exponentials are in
/// `f32`. `window` and `position` are for the error of a logit that is not finite.
pub fn divergence(p: &[f32], q: &[f32], window: usize, position: usize) -> Result<f64> {
    compress_numerics::kernels::divergence(p, q).ok_or(Error::NonFinite { window, position })
}

/// The argmax of a row; the first of equal logits.
pub fn top(logits: &[f32]) -> usize {
    let better =
        |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
    logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), better)
        .0
}

impl Divergence {
    /// Statistics of the divergences of all tokens, of which `same` have the same argmax.
    pub(crate) fn of(mut kl: Vec<f64>, same: usize) -> Self {
        kl.sort_by(f64::total_cmp);
        // The first source of a pass has none: its statistics are zeros, which nobody reads.
        let count = kl.len().max(1);
        // Nearest rank, without interpolation.
        let at = |share: f64| {
            kl.get(((count - 1) as f64 * share).round() as usize)
                .copied()
                .unwrap_or_default()
        };
        Self {
            mean: kl.iter().sum::<f64>() / count as f64,
            median: at(0.5),
            p99: at(0.99),
            max: at(1.0),
            same_top: same as f64 / count as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_does_not_diverge_from_itself() {
        let p = [0.3, -1.0, 2.5];
        assert!(divergence(&p, &p, 0, 0).unwrap() < 1e-12);
        let shifted = p.map(|x| x + 7.0); // the same distribution
        assert!(divergence(&p, &shifted, 0, 0).unwrap() < 1e-6);
    }

    #[test]
    fn the_divergence_of_two_coins_is_the_textbook_one() {
        let (p, q) = ([0.0, 0.0], [3.0_f32.ln(), 0.0]); // 1/2 : 1/2 and 3/4 : 1/4
        let expected = 0.5 * (0.5_f64 / 0.75).ln() + 0.5 * (0.5_f64 / 0.25).ln();
        assert!((divergence(&p, &q, 0, 0).unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn logits_that_are_not_finite_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let logits = [0.0, bad, 1.0];
            let found = divergence(&logits, &[0.0; 3], 4, 2);
            assert!(
                matches!(
                    found,
                    Err(Error::NonFinite {
                        window: 4,
                        position: 2
                    })
                ),
                "{bad}: {found:?}"
            );
        }
    }
}
