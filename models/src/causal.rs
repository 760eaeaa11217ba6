//! Causal attention on the CPU, in blocks of queries.
//!
//! A block of queries is multiplied by the keys up to its last query only, which halves the work, and the scores of a
//! block, 64 × time, stay in the cache of a core: memory grows with time, not with time². Heads of keys and values
//! that several heads of queries share are not copied. burn-flex's attention for long texts makes products of 64 keys
//! at a time, too small to be fast: half of the time of a window of 1024 tokens went there.
//!
//! Everything here gives `None` for tensors that are not plain `f32` ones on the CPU; callers then use burn's.

mod backward;

use std::ops::Range;

use burn::{backend::flex::FlexTensor, tensor::Tensor};
use compress_core::Shape;
use compress_numerics::{
    kernels::{exponentiate, largest},
    linalg::{Right, Slab, product_into},
};
use rayon::prelude::*;

pub use backward::attend_backward;

use crate::host::{Strided, plain, tensor};

/// Queries that are worked on at a time. Larger blocks make larger products, but waste more of the upper triangle.
const BLOCK: usize = 64;

/// Softmax(Q Kᵀ / √d) V. The last query stands at the last key; each query sees the keys up to its own position, and
/// of these the last `window`.
///
/// Takes batch × heads × time × d, with as many or fewer heads of keys and values, and gives batch × time × heads·d.
/// Heads are spread over rayon's threads.
pub fn attend(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    window: Option<usize>,
) -> Option<Tensor<3>> {
    let [batch, heads, queries, size] = query.dims();
    let shared = key.dims()[1];
    let (query, key, value) = (plain(query)?, plain(key)?, plain(value)?);
    let heads_of = Heads::of([&query, &key, &value], window)?;
    let one = |index: usize| {
        // Consecutive query heads share a head of keys and values, as `repeat_interleave` has it in Hugging Face.
        let (text, head) = (index / heads, index % heads);
        let group = head * shared / heads;
        heads_of.attend(Place { text, head, group })
    };
    let attended = (0..batch * heads)
        .into_par_iter()
        .map(one)
        .collect::<Option<Vec<_>>>()?;
    // Each head was computed by itself; here its rows go to its channels in the joined layout.
    let mut numbers = vec![0.0; batch * queries * heads * size];
    for (index, head) in attended.iter().enumerate() {
        let (text, place) = (index / heads, index % heads);
        let rows = numbers.chunks_exact_mut(heads * size).skip(text * queries);
        for (row, part) in rows.zip(head.chunks_exact(size)) {
            row[place * size..][..size].copy_from_slice(part);
        }
    }
    Some(tensor(numbers, [batch, queries, heads * size]))
}

/// The attention mass of each token: Σ over heads and queries of the squared attention weights that it receives.
///
/// Takes 1 × heads × time × d, and gives one number per key; runs on the calling thread.
pub fn attention_mass(
    query: &Tensor<4>,
    key: &Tensor<4>,
    window: Option<usize>,
) -> Option<Vec<f32>> {
    let (heads, [_, shared, keys, _]) = (query.dims()[1], key.dims());
    let (query, key) = (plain(query)?, plain(key)?);
    let heads_of = Heads::of([&query, &key, &key], window)?; // no value is looked at
    let mut attention_mass = vec![0.0; keys];
    for head in 0..heads {
        let group = head * shared / heads;
        heads_of.receive(
            &mut attention_mass,
            Place {
                text: 0,
                head,
                group,
            },
        )?;
    }
    Some(attention_mass)
}

/// Queries, keys and values of all texts and heads, as they lie in memory.
struct Heads<'a> {
    query: Strided<'a>,
    key: Strided<'a>,
    value: Strided<'a>,
    /// Tokens with queries; fewer than `keys` where a cache holds earlier ones.
    queries: usize,
    keys: usize,
    /// d, channels per head.
    size: usize,
    /// Keys that a query sees at most; `usize::MAX` without a sliding window.
    window: usize,
}

/// A query head in a text, and the head of keys and values that it reads.
#[derive(Clone, Copy)]
struct Place {
    text: usize,
    head: usize,
    group: usize,
}

impl<'a> Heads<'a> {
    /// From queries, keys and values, each text × head × time × d; none where the channels of a head are not
    /// contiguous.
    fn of([query, key, value]: [&'a FlexTensor; 3], window: Option<usize>) -> Option<Self> {
        Some(Self {
            query: Strided::of(query)?,
            key: Strided::of(key)?,
            value: Strided::of(value)?,
            queries: query.layout().shape()[2],
            keys: key.layout().shape()[2],
            size: query.layout().shape()[3],
            window: window.unwrap_or(usize::MAX),
        })
    }

    /// The output of one head of one text: queries × d.
    fn attend(&self, place: Place) -> Option<Vec<f32>> {
        let mut attended = vec![0.0; self.queries * self.size];
        let mut scores = vec![0.0; BLOCK.min(self.queries) * self.keys];
        // One buffer for all blocks, as large as the last one needs.
        let blocks = attended.chunks_mut(BLOCK * self.size);
        for (first, attended) in (0..).step_by(BLOCK).zip(blocks) {
            let block = first..first + attended.len() / self.size;
            let seen = self.seen(&block);
            let shape = Shape::new(block.len(), seen.len());
            let scores = &mut scores[..shape.size()];
            self.weigh(scores, place, &block)?;
            let weights = Slab::new(scores, shape).ok()?;
            let value = self.value.rows(place.text, place.group, &seen, self.size)?;
            product_into(attended, weights, value, Right::AsIs).ok()?;
        }
        Some(attended)
    }

    /// Adds the squared attention weights of one head's queries to the keys that receive them.
    fn receive(&self, attention_mass: &mut [f32], place: Place) -> Option<()> {
        let mut scores = vec![0.0; BLOCK.min(self.queries) * self.keys];
        for first in (0..self.queries).step_by(BLOCK) {
            let block = first..self.queries.min(first + BLOCK);
            let seen = self.seen(&block);
            let scores = scores.get_mut(..block.len() * seen.len())?;
            self.weigh(scores, place, &block)?;
            let attention_mass = attention_mass.get_mut(seen)?;
            for row in scores.chunks_exact(attention_mass.len()) {
                let pairs = attention_mass.iter_mut().zip(row);
                pairs.for_each(|(sum, share)| *sum += share * share);
            }
        }
        Some(())
    }

    /// The keys that at least one query of a block sees: from the window of its first query to its last query.
    fn seen(&self, block: &Range<usize>) -> Range<usize> {
        let before = self.keys - self.queries; // keys that all queries see
        let start = (before + block.start + 1).saturating_sub(self.window);
        start..before + block.end
    }

    /// The attention weights of a block of queries, block × the keys of [`seen`](Self::seen); 0 for a key that this
    /// block sees but a query of it does not.
    fn weigh(&self, scores: &mut [f32], place: Place, block: &Range<usize>) -> Option<()> {
        let Place { text, head, group } = place;
        let keys = self.seen(block);
        let query = self.query.rows(text, head, block, self.size)?;
        let key = self.key.rows(text, group, &keys, self.size)?;
        product_into(scores, query, key, Right::Transposed).ok()?;
        for (row, scores) in scores.chunks_exact_mut(keys.len()).enumerate() {
            let end = self.keys - self.queries + block.start + row + 1;
            let start = end.saturating_sub(self.window).max(keys.start);
            softmax(scores, start - keys.start..end - keys.start, self.size);
        }
        Some(())
    }
}

/// softmax(x / √d) of the scores in `seen`; all others become 0.
///
/// `seen` must not be empty: the sum would be 0. It never is under a window of at least 1: each token sees itself.
fn softmax(scores: &mut [f32], seen: Range<usize>, size: usize) {
    let scale = (size as f32).sqrt().recip();
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let seen = &mut scores[seen];
    // The maximum is taken off, so that no exponential overflows.
    let most = largest(seen);
    seen.iter_mut().for_each(|x| *x = (*x - most) * scale);
    exponentiate(seen);
    let norm = seen.iter().sum::<f32>().recip();
    seen.iter_mut().for_each(|x| *x *= norm);
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Scores, exponentials and sums as the formula has them, one at a time.
    fn naive(
        query: &[f32],
        key: &[f32],
        [heads, shared, time, size]: [usize; 4],
        window: usize,
    ) -> Vec<f64> {
        let mut attention_mass = vec![0.0; time];
        for head in 0..heads {
            let key = &key[head * shared / heads * time * size..][..time * size];
            for (t, query) in query[head * time * size..][..time * size]
                .chunks(size)
                .enumerate()
            {
                let seen = (t + 1).saturating_sub(window)..t + 1;
                let share = |k: usize| {
                    let products = query.iter().zip(&key[k * size..]);
                    let score: f64 = products.map(|(a, b)| f64::from(a * b)).sum();
                    (score / (size as f64).sqrt()).exp()
                };
                let norm: f64 = seen.clone().map(share).sum();
                seen.for_each(|k| attention_mass[k] += (share(k) / norm).powi(2));
            }
        }
        attention_mass
    }

    #[test]
    fn what_a_token_receives_is_the_sum_of_squared_shares() {
        let device = Device::flex();
        for (heads, shared, time, window) in [(1, 1, 5, 99), (6, 2, 150, 99), (4, 2, 150, 20)] {
            let size = 8;
            let random = |heads: usize| {
                let shape = [1, heads, time, size];
                Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device)
            };
            let (query, key) = (random(heads), random(shared));
            let found = attention_mass(&query, &key, Some(window)).unwrap();
            let numbers = |x: Tensor<4>| x.into_data().try_into_vec::<f32>().unwrap();
            let sizes = [heads, shared, time, size];
            let exact = naive(&numbers(query), &numbers(key), sizes, window);
            for (found, exact) in found.iter().zip(exact) {
                assert!((f64::from(*found) - exact).abs() < 1e-5 * (1.0 + exact));
            }
        }
    }
}
