//! Attention with its weights in memory, in burn's operations: for backward passes on GPUs, where the kernels of `causal` do
//! not run, and under autodiff.
//!
//! ```text
//! P = softmax(Q Kᵀ / √d)    ∂V = Pᵀ ∂O    ∂P = ∂O Vᵀ    ∂S = P ∘ (∂P − Σ ∂P ∘ P)    ∂Q = ∂S K / √d    ∂K = ∂Sᵀ Q / √d
//! ```
//!
//! P takes heads · time² numbers: callers pass few windows at a time.

use burn::tensor::{Bool, Int, Tensor, activation::softmax};

/// P, batch × heads × queries × keys, from queries and keys with as many heads. The last query stands at the last
/// key; each sees the keys up to its own position, and of these the last `window`.
pub fn attention_weights(query: Tensor<4>, key: Tensor<4>, window: Option<usize>) -> Tensor<4> {
    let [.., queries, size] = query.dims();
    let keys = key.dims()[2];
    let hidden = hidden(queries, keys, window, &query);
    let scores = query.matmul(key.swap_dims(2, 3)) / (size as f32).sqrt();
    softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3)
}

/// The vjp of attention: gradients by queries, keys and values from that by the output, batch × heads × time × d.
/// Heads of keys and values may be fewer; each gets the sum over the query heads that share it.
pub fn attend_backward(
    [query, key, value]: [Tensor<4>; 3],
    gradient: Tensor<4>,
    window: Option<usize>,
) -> [Tensor<4>; 3] {
    let ([_, heads, _, size], shared) = (query.dims(), key.dims()[1]);
    let root = (size as f32).sqrt();
    let (key, value) = (repeat(key, heads), repeat(value, heads));
    let weights = attention_weights(query.clone(), key.clone(), window);
    let by_value = weights.clone().swap_dims(2, 3).matmul(gradient.clone());
    let by_weights = gradient.matmul(value.swap_dims(2, 3));
    let mean = (by_weights.clone() * weights.clone()).sum_dim(3);
    let by_scores = (by_weights - mean) * weights / root;
    let by_query = by_scores.clone().matmul(key);
    let by_key = by_scores.swap_dims(2, 3).matmul(query);
    [by_query, summed(by_key, shared), summed(by_value, shared)]
}

/// Copies heads that several query heads share, so that each of `heads` has one of its own.
pub fn repeat(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, shared, time, size] = x.dims();
    if shared == heads {
        return x;
    }
    let x: Tensor<5> = x.unsqueeze_dim(2);
    x.expand([batch, shared, heads / shared, time, size])
        .reshape([batch, heads, time, size])
}

/// The transpose of that: sums over the heads that share one.
fn summed(x: Tensor<4>, shared: usize) -> Tensor<4> {
    let [batch, heads, time, size] = x.dims();
    let x: Tensor<5> = x.reshape([batch, shared, heads / shared, time, size]);
    x.sum_dim(2).reshape([batch, shared, time, size])
}

/// True where a query does not see a key, 1 × 1 × queries × keys: it lies behind it, or further back than the window.
fn hidden(queries: usize, keys: usize, window: Option<usize>, like: &Tensor<4>) -> Tensor<4, Bool> {
    let device = like.device();
    let first = (keys - queries) as i64;
    let query: Tensor<2, Int> =
        Tensor::<1, Int>::arange(first..keys as i64, &device).reshape([queries, 1]);
    let key: Tensor<2, Int> = Tensor::<1, Int>::arange(0..keys as i64, &device).reshape([1, keys]);
    let distance = query - key;
    let mut hidden = distance.clone().lower_elem(0);
    if let Some(window) = window {
        hidden = hidden.bool_or(distance.greater_equal_elem(window as i64));
    }
    hidden.reshape([1, 1, queries, keys])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;
    use crate::causal;

    #[test]
    fn gradients_and_mass_are_those_of_the_kernels() {
        let device = Device::flex();
        let random = |heads| {
            let normal = Distribution::Normal(0.0, 1.0);
            Tensor::<4>::random([2, heads, 70, 16], normal, &device)
        };
        let (query, key, value) = (random(6), random(3), random(3));
        let gradient = random(6);
        for window in [None, Some(9)] {
            let joined = gradient.clone().swap_dims(1, 2).reshape([2, 70, 6 * 16]);
            let kernel = causal::attend_backward([&query, &key, &value], joined, window).unwrap();
            let ours = [query.clone(), key.clone(), value.clone()];
            let ours = attend_backward(ours, gradient.clone(), window);
            for (ours, kernel) in ours.into_iter().zip(kernel) {
                let tolerance = Tolerance::<f32>::default();
                ours.into_data()
                    .assert_approx_eq(&kernel.into_data(), tolerance);
            }
        }
    }
}
