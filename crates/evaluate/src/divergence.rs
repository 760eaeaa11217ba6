//! How far another model's predictions are from the original's, token by token.

use std::time::Instant;

use compress_core::exponentiate;
use compress_models::Decoder;
use serde::Serialize;

use crate::{
    Error, Perplexity, Result,
    logits::{Logits, Predictions, log_sum_exp, loss},
    perplexity::for_each_window,
};

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

/// Two models over the same windows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Comparison {
    /// The original alone.
    pub original: Perplexity,
    /// The other model alone.
    pub other: Perplexity,
    /// One against the other.
    pub kl: Divergence,
}

/// What one window adds to a comparison.
#[derive(Default)]
struct Part {
    loss: [f64; 2],
    seconds: [f64; 2],
    kl: Vec<f64>,
    same: usize,
}

/// Runs two models over the same windows. The models take turns, so that their speeds compare even
/// on a machine with other work.
pub fn compare(
    original: &Decoder,
    other: &Decoder,
    windows: &[Vec<u32>],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Comparison> {
    let vocabulary = original.vocabulary();
    if vocabulary != other.vocabulary() {
        return Err(Error::Vocabulary {
            original: vocabulary,
            other: other.vocabulary(),
        });
    }
    let start = Instant::now();
    let parts = for_each_window(&original.device(), windows, |index, window| {
        let part = compare_window([original, other], index, window)?;
        done(window.len());
        Ok(part)
    })?;
    let wall = start.elapsed().as_secs_f64();
    let tokens = windows.iter().map(|window| window.len() - 1).sum::<usize>();
    let total = |f: fn(&Part) -> f64| parts.iter().map(f).sum::<f64>();
    let busy = total(|part| part.seconds[0] + part.seconds[1]);
    // Each model's share of the wall time, which windows running side by side divide between them.
    let share = |seconds: f64| wall * seconds / busy;
    Ok(Comparison {
        original: Perplexity::new(
            total(|part| part.loss[0]),
            tokens,
            share(total(|part| part.seconds[0])),
        ),
        other: Perplexity::new(
            total(|part| part.loss[1]),
            tokens,
            share(total(|part| part.seconds[1])),
        ),
        kl: summary(parts),
    })
}

fn compare_window(models: [&Decoder; 2], index: usize, window: &[u32]) -> Result<Part> {
    let mut part = Part::default();
    let (first, start) = timed(|| Predictions::of(models[0], window))?;
    let (second, other_start) = timed(|| Predictions::of(models[1], window))?;
    part.seconds = [start, other_start];
    for slice in first.slices() {
        let mut logits_and_loss = |model: usize, predictions: &Predictions<'_>| {
            let (logits, seconds) = timed(|| {
                let logits = predictions.logits(slice.clone())?;
                part.loss[model] += loss(&logits, &slice, index, window)?;
                Ok(logits)
            })?;
            part.seconds[model] += seconds;
            Ok::<Logits, Error>(logits)
        };
        let p = logits_and_loss(0, &first)?;
        let q = logits_and_loss(1, &second)?;
        for ((p, q), position) in p.rows().zip(q.rows()).zip(slice) {
            part.kl.push(divergence(p, q, index, position)?);
            part.same += usize::from(top(p) == top(q));
        }
    }
    Ok(part)
}

/// What the work gives, and the seconds that it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let clock = Instant::now();
    let result = work()?;
    Ok((result, clock.elapsed().as_secs_f64()))
}

/// Σ p · (log p − log q), never below zero; right to 10⁻⁶, as the exponentials are those of `f32`.
fn divergence(p: &[f32], q: &[f32], window: usize, position: usize) -> Result<f64> {
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
fn top(logits: &[f32]) -> usize {
    let better =
        |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
    logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), better)
        .0
}

fn summary(parts: Vec<Part>) -> Divergence {
    let same: usize = parts.iter().map(|part| part.same).sum();
    let mut kl: Vec<f64> = parts.into_iter().flat_map(|part| part.kl).collect();
    kl.sort_by(f64::total_cmp);
    let count = kl.len().max(1);
    let at = |share: f64| {
        kl.get(((count - 1) as f64 * share).round() as usize)
            .copied()
            .unwrap_or_default()
    };
    Divergence {
        mean: kl.iter().sum::<f64>() / count as f64,
        median: at(0.5),
        p99: at(0.99),
        max: at(1.0),
        same_top: same as f64 / count as f64,
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
