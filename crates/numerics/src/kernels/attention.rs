//! Attention of one query over the keys and values of its head (Vaswani et al. 2017, arXiv 1706.03762), part by part:
//! decoding with a cache of keys and values. 4·d operations per token and head; the cost is that of reading the cache
//! once.
//!
//! ```text
//! h = Σ softmax(s) v,   s = K q / √d        q: d, K and V: time × d, h: d
//! ```
//!
//! A cache that lies in several pieces, in several forms, is attended to piece by piece. A part has the exponentials of
//! its own scores, shifted by the largest of them; joined, parts are shifted to the largest of all (online softmax,
//! Milakov & Gimelshein 2018, arXiv 1805.02867).

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use super::{dot::fold, exponential::exp, vectorized};

/// Channels that are summed at a time: their sums stay in registers.
const LANES: usize = 32;

/// Numbers at the head of a part: its largest score m, and Σ exp(s − m).
pub const HEADER: usize = 2;

/// Attention over some tokens, as a part: m = max s, Σ exp(s − m), then Σ exp(s − m) v, of 2 + width numbers.
///
/// Takes a score per token, at least one, which is overwritten, and a value per token, row after row. A score of −∞ is
/// that of a token which is not seen; at least one must be larger.
pub fn attend_part(scores: &mut [f32], values: &[f32], part: &mut [f32]) {
    vectorized(
        #[inline(always)]
        move || {
            part[..HEADER].copy_from_slice(&shifted_exponentials(scores));
            weighted_sum(scores, values, &mut part[HEADER..]);
        },
    );
}

/// Replaces scores s by exp(s − m) with m = max s, and returns m and their sum: the head of a part.
pub fn exponentials(scores: &mut [f32]) -> [f32; HEADER] {
    vectorized(
        #[inline(always)]
        move || shifted_exponentials(scores),
    )
}

#[inline(always)]
fn shifted_exponentials(scores: &mut [f32]) -> [f32; HEADER] {
    let most = fold(scores, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
    for score in &mut *scores {
        *score = exp(*score - most);
    }
    [most, fold(scores, 0.0, |a, b| a + b)]
}

/// The attention over all tokens from its parts, each 2 + d numbers, one after the other: d numbers.
#[must_use]
pub fn join_parts(parts: &[f32], size: usize) -> Vec<f32> {
    let parts = || parts.chunks_exact(HEADER + size);
    let most = parts().fold(f32::NEG_INFINITY, |most, part| most.max(part[0]));
    let (mut out, mut norm) = (vec![0.0; size], 0.0);
    for part in parts() {
        let share = (part[0] - most).exp();
        norm += share * part[1];
        let sums = out.iter_mut().zip(&part[HEADER..]);
        sums.for_each(|(out, sum)| *out += share * sum);
    }
    // Not zero: the largest score has the exponential 1.
    out.iter_mut().for_each(|out| *out /= norm);
    out
}

/// Σ w v over rows v of as many numbers as `out` has.
#[inline(always)]
fn weighted_sum(weights: &[f32], rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let first = LANES * whole.len();
    for (block, out) in whole.iter_mut().enumerate() {
        let mut sums = [0.0; LANES];
        for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
            let row = &row[LANES * block..][..LANES];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += weight * x;
            }
        }
        *out = sums;
    }
    if rest.is_empty() {
        return;
    }
    rest.fill(0.0);
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        for (sum, x) in rest.iter_mut().zip(&row[first..]) {
            *sum += weight * x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        multiply_rows,
        testing::{assert_near, numbers},
    };

    #[test]
    fn attention_is_a_mean_of_values_weighted_by_exponentials() {
        for (cuts, size) in [(vec![1], 8), (vec![6, 1], 64), (vec![290, 7, 3], 80)] {
            let time: usize = cuts.iter().sum();
            let (q, k) = (numbers(size, 4), numbers(time * size, 5));
            let v = numbers(time * size, 6);
            let (mut parts, mut first) = (Vec::new(), 0);
            for cut in cuts {
                let rows = first * size..(first + cut) * size;
                let mut scores = vec![0.0; cut];
                multiply_rows(&k[rows.clone()], &q, &mut scores);
                let mut part = vec![1.0; HEADER + size];
                attend_part(&mut scores, &v[rows], &mut part);
                parts.extend(part);
                first += cut;
            }
            let score = |key: &[f32]| {
                let products = q.iter().zip(key);
                let sum: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                sum.exp()
            };
            let weights: Vec<f64> = k.chunks(size).map(score).collect();
            let norm: f64 = weights.iter().sum();
            let mean = |channel: usize| {
                let values = v.chunks(size).map(|value| f64::from(value[channel]));
                weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / norm
            };
            assert_near(&join_parts(&parts, size), (0..size).map(mean));
        }
    }

    #[test]
    fn a_score_of_minus_infinity_is_not_seen() {
        let mut part = [0.0; HEADER + 1];
        attend_part(&mut [f32::NEG_INFINITY, 2.0], &[7.0, 3.0], &mut part);
        assert_eq!(join_parts(&part, 1), [3.0]);
    }
}
