//! Attention of one query over the keys and values of its head (Vaswani et al. 2017, arXiv 1706.03762): decoding with
//! a cache of keys and values. 4·d operations per time step and head; the cost is that of reading the cache once.
//!
//! ```text
//! h = Σ softmax(K q / √d) V      q: d, K and V: time × d, h: d
//! ```

use super::{
    dot::{dot, fold},
    exponential::exp,
    vectorized,
};

/// Σ softmax(K q / √d) V of one query, d, over the keys and values of its head, each time × d, row after row: the
/// cached ones, then the new ones. There must be at least one; `out` has d numbers.
pub fn attend_one(query: &[f32], keys: [&[f32]; 2], values: [&[f32]; 2], out: &mut [f32]) {
    let size = query.len().max(1);
    let seen = keys.iter().map(|keys| keys.len() / size).sum();
    let weights = vec![0.0; seen];
    // It takes the weights with it: a closure that could be called twice is not sure to be inlined.
    vectorized(
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
    // The softmax is shifted by the largest score, so that no exponential overflows.
    let most = fold(
        &weights,
        f32::NEG_INFINITY,
        |a, b| if a > b { a } else { b },
    );
    for weight in &mut weights {
        *weight = exp(*weight - most);
    }
    // Not zero: the largest score has the exponential 1.
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
    use crate::kernels::testing::{assert_near, numbers};

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
