//! What one token meets between its products: the small steps of a block, on plain numbers.
//!
//! ```text
//! n ← x ⊙ gain / √(mean x² + ε)                        rms_norm
//! (a, b) ← (a cos − b sin, b cos + a sin)              rotate_halves
//! h ← Σ softmax(K q / √d) V                            attend_one
//! g ← g ⊙ u / (1 + e^−g)                               gate
//! ```
//!
//! A tensor library allocates and looks up a dozen times for each of them, which takes longer than the
//! step itself when there is one token.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use pulp::Arch;

use crate::exponential::exp;

/// Sums that run side by side.
const LANES: usize = 16;

/// x ⊙ gain / √(mean x² + ε), into memory of the same length.
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mean = dot(x, x) / x.len() as f32;
            let scale = (mean + epsilon).sqrt().recip();
            for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
                *out = x * scale * gain;
            }
        },
    );
}

/// Turns the pairs of channels (i, i + d/2) of each head, by d/2 cosines and sines.
pub fn rotate_halves(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for head in heads.chunks_exact_mut(2 * cos.len()) {
                let (first, second) = head.split_at_mut(cos.len());
                let pairs = first.iter_mut().zip(second);
                for ((a, b), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        },
    );
}

/// Σ softmax(K q / √d) V of one query, d, over the keys and values of its head, time × d.
///
/// `scores` is memory to work in; what it held is lost.
pub fn attend_one(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let size = query.len();
    let scale = (size as f32).sqrt().recip();
    Arch::new().dispatch(
        #[inline(always)]
        || {
            scores.clear();
            scores.extend(keys.chunks_exact(size).map(|key| dot(query, key) * scale));
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|x| *x = exp(*x - most));
            let norm = sum(scores).recip();
            out.fill(0.0);
            for (weight, value) in scores.iter().zip(values.chunks_exact(size)) {
                let weight = weight * norm;
                for (out, value) in out.iter_mut().zip(value) {
                    *out += weight * value;
                }
            }
        },
    );
}

/// silu(gate) ⊙ up, in the place of the gate.
pub fn gate(gate: &mut [f32], up: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate *= up / (1.0 + exp(-*gate));
            }
        },
    );
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in whole.0.iter().zip(rest.0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(whole.1).zip(rest.1) {
        *sum += a * b;
    }
    add_up(sums)
}

#[inline(always)]
fn sum(numbers: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for chunk in numbers.chunks(LANES) {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    add_up(sums)
}

/// The upper half to the lower, until one is left.
#[inline(always)]
fn add_up(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random(seed);
        (0..count).map(|_| random.normal()).collect()
    }

    fn assert_near(found: &[f32], exact: impl IntoIterator<Item = f64>) {
        for (i, (&x, exact)) in found.iter().zip(exact).enumerate() {
            let error = (f64::from(x) - exact).abs();
            assert!(error < 2e-6 * exact.abs().max(1.0), "{i}: {x}, not {exact}");
        }
    }

    #[test]
    fn a_norm_divides_by_the_root_of_the_mean_square() {
        for count in [1, 15, 16, 33, 576] {
            let (x, gain) = (numbers(count, 1), numbers(count, 2));
            let mut out = vec![0.0; count];
            rms_norm(&x, &gain, 1e-5, &mut out);
            let squares = x.iter().map(|&x| f64::from(x).powi(2));
            let root = (squares.sum::<f64>() / count as f64 + 1e-5).sqrt();
            let pairs = x.iter().zip(&gain);
            assert_near(
                &out,
                pairs.map(|(&x, &g)| f64::from(x) * f64::from(g) / root),
            );
        }
    }

    #[test]
    fn turning_by_an_angle_and_back_changes_nothing() {
        let x = numbers(3 * 64, 3);
        let mut turned = x.clone();
        let (cos, sin): (Vec<f32>, Vec<f32>) = (0..32)
            .map(|i| (i as f32).sin_cos())
            .map(|(s, c)| (c, s))
            .unzip();
        rotate_halves(&mut turned, &cos, &sin);
        assert_near(&turned[64..65], [f64::from(x[64])]); // the angle 0
        let exact = f64::from(x[1]) * f64::from(cos[1]) - f64::from(x[33]) * f64::from(sin[1]);
        assert_near(&turned[1..2], [exact]);
        let back: Vec<f32> = sin.iter().map(|sin| -sin).collect();
        rotate_halves(&mut turned, &cos, &back);
        assert_near(&turned, x.into_iter().map(f64::from));
    }

    #[test]
    fn attention_is_a_mean_of_values_weighted_by_exponentials() {
        for (time, size) in [(1, 8), (7, 64), (300, 80)] {
            let (q, k, v) = (
                numbers(size, 4),
                numbers(time * size, 5),
                numbers(time * size, 6),
            );
            let (mut scores, mut out) = (vec![7.0; 3], vec![1.0; size]);
            attend_one(&q, &k, &v, &mut scores, &mut out);
            let score = |key: &[f32]| {
                let products = q
                    .iter()
                    .zip(key)
                    .map(|(&a, &b)| f64::from(a) * f64::from(b));
                (products.sum::<f64>() / (size as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = k.chunks(size).map(score).collect();
            let norm: f64 = weights.iter().sum();
            let mean = |channel: usize| {
                let values = v.chunks(size).map(|value| f64::from(value[channel]));
                weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / norm
            };
            assert_near(&out, (0..size).map(mean));
        }
    }

    #[test]
    fn a_gate_lets_through_what_its_sigmoid_says() {
        let (mut x, up) = (numbers(77, 7), numbers(77, 8));
        let exact: Vec<f64> = x
            .iter()
            .zip(&up)
            .map(|(&g, &u)| f64::from(g) * f64::from(u) / (1.0 + (-f64::from(g)).exp()))
            .collect();
        gate(&mut x, &up);
        assert_near(&x, exact);
        let mut far = [-200.0, 200.0];
        gate(&mut far, &[1.0, 1.0]);
        assert_near(&far, [0.0, 200.0]);
    }
}
