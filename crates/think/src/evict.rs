//! Which tokens of a prompt stay: those that its last queries attend to most (SnapKV, Li et al., arXiv 2404.14469).

use compress_numerics::kernels::{exponentiate, multiply_rows};

/// Neighbours over which attention is averaged, so that tokens stay in runs and not one by one.
const KERNEL: usize = 5;

/// The indices of the `count` tokens, among the first `old`, that queries attend to most, in order.
///
/// `queries` are those of each query head that reads these keys, rows of d channels for the last tokens; `keys` are of
/// all tokens. Each query sees the keys up to its own.
pub fn attended(
    queries: &[&[f32]],
    keys: &[f32],
    size: usize,
    old: usize,
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
        let near = token.saturating_sub(KERNEL / 2)..old.min(token + KERNEL / 2 + 1);
        mass[near].iter().sum::<f64>()
    };
    let pooled: Vec<f64> = (0..old).map(pooled).collect();
    let mut order: Vec<usize> = (0..old).collect();
    // Stable: of equal ones the first stay.
    order.sort_by(|&a, &b| pooled[b].total_cmp(&pooled[a]));
    order.truncate(count);
    order.sort_unstable();
    order
}
