//! Which tokens of a prompt stay: those that its last queries attend to most (SnapKV, Li et al., arXiv 2404.14469).

use std::ops::Range;

use compress_numerics::kernels::{exponentiate, multiply_rows};

/// Neighbours over which attention is averaged, so that tokens stay in runs and not one by one.
const KERNEL: usize = 5;

/// The indices of the `count` tokens, among those in `old`, that queries attend to most, in order.
///
/// `queries` are those of each query head that reads these keys, rows of d channels for the last tokens; `keys` are of
/// all tokens. Each query sees the keys up to its own.
pub fn attended(
    queries: &[&[f32]],
    keys: &[f32],
    size: usize,
    old: Range<usize>,
    count: usize,
) -> Vec<usize> {
    let tokens = keys.len() / size;
    let scale = (size as f32).sqrt().recip();
    let mut mass = vec![0.0_f64; tokens];
    for queries in queries {
        let first = tokens - queries.len() / size;
        for (query, position) in queries.chunks_exact(size).zip(first..) {
            let mut weights = vec![0.0; position + 1];
            multiply_rows(keys, query, &mut weights);
            let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|x| *x = (*x - most) * scale);
            exponentiate(&mut weights);
            let norm: f64 = weights.iter().map(|&x| f64::from(x)).sum();
            let shares = weights.iter().map(|&x| f64::from(x) / norm);
            mass.iter_mut().zip(shares).for_each(|(mass, x)| *mass += x);
        }
    }
    let pooled = |token: usize| {
        let first = old.start.max(token.saturating_sub(KERNEL / 2));
        let near = first..old.end.min(token + KERNEL / 2 + 1);
        mass[near].iter().sum::<f64>()
    };
    let pooled: Vec<f64> = old.clone().map(pooled).collect();
    let mut order: Vec<usize> = old.clone().collect();
    // Stable: of equal ones the first stay.
    let of = |token: usize| pooled[token - old.start];
    order.sort_by(|&a, &b| of(b).total_cmp(&of(a)));
    order.truncate(count);
    order.sort_unstable();
    order
}
