//! What one token meets between its products: the small steps of a block, on plain numbers.
//!
//! ```text
//! n ← x ⊙ gain / √(mean x² + ε)                        rms_norm
//! (a, b) ← (a cos − b sin, b cos + a sin)              rotate_halves
//! h ← Σ softmax(K q / √d) V                            attend_one
//! ```
//!
//! A tensor library allocates and looks up a dozen times for each of them, which takes longer than the
//! step itself when there is one token.

use pulp::Arch;

use crate::{
    dot::{dot, fold},
    exponential::exp,
};

/// x ⊙ gain / √(mean x² + ε)
#[must_use]
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mean = dot(x, x) / x.len() as f32;
            let scale = (mean + epsilon).sqrt().recip();
            x.iter().zip(gain).map(|(x, g)| x * scale * g).collect()
        },
    )
}

/// Turns the pairs of channels (i, i + d/2) of each head, by d/2 cosines and sines.
pub fn rotate_halves(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for head in heads.chunks_exact_mut((2 * cos.len()).max(1)) {
                let (first, second) = head.split_at_mut(cos.len());
                let pairs = first.iter_mut().zip(second);
                for ((a, b), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        },
    );
}

/// Σ softmax(K q / √d) V of one query, d, over the keys and values of its head, time × d: those that
/// are remembered, and those that are new.
pub fn attend_one(query: &[f32], keys: [&[f32]; 2], values: [&[f32]; 2], out: &mut [f32]) {
    let size = query.len().max(1);
    let seen = keys.iter().map(|keys| keys.len() / size).sum();
    let weights = vec![0.0; seen];
    // It takes the weights with it: a closure that could be called twice is not sure to be inlined.
    Arch::new().dispatch(
        #[inline(always)]
        move || attend(query, keys, values, weights, out),
    );
}

#[expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that it is inlined into"
)]
#[inline(always)]
fn attend(
    query: &[f32],
    keys: [&[f32]; 2],
    values: [&[f32]; 2],
    mut weights: Vec<f32>,
    out: &mut [f32],
) {
    let size = query.len();
    let scale = (size as f32).sqrt().recip();
    let mut rest = &mut weights[..];
    for keys in keys {
        let (part, after) = rest.split_at_mut(keys.len() / size);
        for (weight, key) in part.iter_mut().zip(keys.chunks_exact(size)) {
            *weight = dot(query, key) * scale;
        }
        rest = after;
    }
    let most = fold(
        &weights,
        f32::NEG_INFINITY,
        |a, b| if a > b { a } else { b },
    );
    for weight in &mut weights {
        *weight = exp(*weight - most);
    }
    let norm = fold(&weights, 0.0, |a, b| a + b).recip();
    out.fill(0.0);
    let mut rest = &weights[..];
    for values in values {
        let (part, after) = rest.split_at(values.len() / size);
        for (weight, value) in part.iter().zip(values.chunks_exact(size)) {
            let weight = weight * norm;
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        }
        rest = after;
    }
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
            let squares = x.iter().map(|&x| f64::from(x).powi(2));
            let root = (squares.sum::<f64>() / count as f64 + 1e-5).sqrt();
            let pairs = x.iter().zip(&gain);
            let exact = pairs.map(|(&x, &g)| f64::from(x) * f64::from(g) / root);
            assert_near(&rms_norm(&x, &gain, 1e-5), exact);
        }
    }

    #[test]
    fn turning_by_an_angle_and_back_changes_nothing() {
        let x = numbers(3 * 64, 3);
        let mut turned = x.clone();
        let angles = (0..32).map(|i| (i as f32).sin_cos());
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.unzip();
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
        for (past, new, size) in [(0, 1, 8), (6, 1, 64), (290, 10, 80)] {
            let time = past + new;
            let (q, k) = (numbers(size, 4), numbers(time * size, 5));
            let v = numbers(time * size, 6);
            let mut out = vec![1.0; size];
            let [keys, values] = [&k, &v].map(|x| x.split_at(past * size).into());
            attend_one(&q, keys, values, &mut out);
            let score = |key: &[f32]| {
                let products = q.iter().zip(key);
                let sum: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                (sum / (size as f64).sqrt()).exp()
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
}
