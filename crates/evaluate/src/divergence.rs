//! How far another model's predictions are from the original's, token by token.

use compress_models::Network;
use compress_numerics::kernels::exponentiate;
use serde::Serialize;

use crate::{Pass, Perplexity, Result, Source, logits::log_sum_exp};

/// Kullback–Leibler divergence of the other model's predictions from the original's, in nats, over
/// all scored tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Divergence {
    /// The mean.
    pub mean: f64,
    /// Half of the tokens have less.
    pub median: f64,
    /// 99 % of the tokens have less.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// Share of tokens for which both models find the same token most likely.
    pub same_top: f64,
}

/// A model that was measured against an original.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scored {
    /// The model alone.
    pub score: Perplexity,
    /// How far it is from the original.
    pub kl: Divergence,
}

/// Models over the same windows.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The original alone.
    pub original: Perplexity,
    /// The others, in their order.
    pub others: Vec<Scored>,
}

impl Pass<'_> {
    /// Runs an original and others over the same windows; the original's logits are taken once for all.
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

/// Σ p · (log p − log q), never below zero; right to 10⁻⁶, as the exponentials are those of `f32`.
pub fn divergence(p: &[f32], q: &[f32], window: usize, position: usize) -> Result<f64> {
    let shift_p = log_sum_exp(p, window, position)?;
    let shift_q = log_sum_exp(q, window, position)?;
    let shift = shift_q - shift_p;
    let mut shares = [0.0; 1024];
    let mut sum = 0.0;
    for (p, q) in p.chunks(shares.len()).zip(q.chunks(shares.len())) {
        let shares = &mut shares[..p.len()];
        let logarithms = shares.iter_mut().zip(p);
        logarithms.for_each(|(share, p)| *share = p - shift_p as f32);
        exponentiate(shares);
        let terms = shares.iter().zip(p).zip(q);
        sum += terms
            .map(|((share, p), q)| f64::from(*share) * (f64::from(*p) - f64::from(*q) + shift))
            .sum::<f64>();
    }
    Ok(sum.max(0.0))
}

/// Index of the largest logit, the first of equals.
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
    /// Of all tokens' divergences, and of how many have the same top.
    pub(crate) fn of(mut kl: Vec<f64>, same: usize) -> Self {
        kl.sort_by(f64::total_cmp);
        let count = kl.len().max(1);
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
    use crate::Error;

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
