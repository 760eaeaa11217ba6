//! The backward pass through causal attention, in the same blocks of queries.
//!
//! ```text
//! P = softmax(Q Kᵀ / √d)   computed anew, block by block: keeping it would take time² numbers per head
//! ∂V = Pᵀ ∂O
//! ∂P = ∂O Vᵀ    ∂S = P ∘ (∂P − rows' sums of P ∘ ∂P) / √d
//! ∂Q = ∂S K     ∂K = ∂Sᵀ Q     heads that share keys and values add theirs up
//! ```
//!
//! Needs queries, keys and values as they entered the forward pass, and does five products for its two; beyond the
//! gradients it holds two blocks of 64 × time numbers per thread. burn's autodiff keeps the scores of all heads, and
//! passes over them some twenty times.

use burn::tensor::Tensor;
use compress_core::Shape;
use compress_numerics::linalg::{Right, Slab, add_product_of_transposed, product_into};
use rayon::prelude::*;

use super::{BLOCK, Heads, Place, Strided};
use crate::host::{plain, tensor};

/// The vjp of [`attend`](super::attend): gradients by queries, keys and values, in their shapes, from the gradient by
/// its output, batch × time × heads·d.
///
/// For texts without a cache: as many queries as keys. None where the tensors are not plain ones on the CPU.
pub fn attend_backward(
    [query, key, value]: [&Tensor<4>; 3],
    gradient: Tensor<3>,
    window: Option<usize>,
) -> Option<[Tensor<4>; 3]> {
    let [batch, heads, time, size] = query.dims();
    let [_, groups, _, _] = key.dims();
    let gradient: Tensor<4> = gradient.reshape([batch, time, heads, size]).swap_dims(1, 2);
    let (query, key, value) = (plain(query)?, plain(key)?, plain(value)?);
    let gradient = plain(&gradient)?;
    let back = Back {
        heads: Heads::of([&query, &key, &value], window)?,
        gradient: Strided::of(&gradient)?,
        shared_by: heads / groups,
    };
    // A thread takes a head of keys and values with all query heads that share it: no two add to the same gradient.
    let one = |index: usize| back.group(index / groups, index % groups);
    let each = (0..batch * groups).into_par_iter().map(one);
    let each = each.collect::<Option<Vec<_>>>()?;
    let part = |heads: usize, of: fn(&Gradients) -> &[f32]| {
        let numbers: Vec<f32> = each.iter().flat_map(of).copied().collect();
        tensor(numbers, [batch, heads, time, size])
    };
    Some([
        part(heads, |g| &g.query),
        part(groups, |g| &g.key),
        part(groups, |g| &g.value),
    ])
}

/// The operands of the backward pass.
struct Back<'a> {
    heads: Heads<'a>,
    gradient: Strided<'a>,
    /// Query heads per head of keys and values.
    shared_by: usize,
}

/// The gradients of one head of keys and values, and of the query heads that share it.
struct Gradients {
    query: Vec<f32>, // shared_by × time × d
    key: Vec<f32>,   // time × d
    value: Vec<f32>, // time × d
}

impl Back<'_> {
    /// All gradients of one head of keys and values in one text.
    fn group(&self, text: usize, group: usize) -> Option<Gradients> {
        let head_size = self.heads.queries * self.heads.size;
        let mut gradients = Gradients {
            query: vec![0.0; self.shared_by * head_size],
            key: vec![0.0; head_size],
            value: vec![0.0; head_size],
        };
        let Gradients { query, key, value } = &mut gradients;
        for (sharing, query) in query.chunks_exact_mut(head_size).enumerate() {
            let head = group * self.shared_by + sharing;
            self.head(Place { text, head, group }, query, key, value)?;
        }
        Some(gradients)
    }

    /// Sets the gradients by the queries of one head, and adds to those by the keys and values that it shares.
    fn head(
        &self,
        place: Place,
        by_query: &mut [f32],
        by_key: &mut [f32],
        by_value: &mut [f32],
    ) -> Option<()> {
        let (heads, Place { text, head, group }) = (&self.heads, place);
        let size = heads.size;
        let mut weights = vec![0.0; BLOCK.min(heads.queries) * heads.keys];
        let mut by_scores = weights.clone();
        let blocks = by_query.chunks_mut(BLOCK * size);
        for (first, by_query) in (0..).step_by(BLOCK).zip(blocks) {
            let block = first..first + by_query.len() / size;
            let seen = heads.seen(&block);
            let shape = Shape::new(block.len(), seen.len());
            let weights = &mut weights[..shape.size()];
            let by_scores = &mut by_scores[..shape.size()];
            heads.weigh(weights, place, &block)?;
            let query = heads.query.rows(text, head, &block, size)?;
            let key = heads.key.rows(text, group, &seen, size)?;
            let value = heads.value.rows(text, group, &seen, size)?;
            let gradient = self.gradient.rows(text, head, &block, size)?;
            product_into(by_scores, gradient, value, Right::Transposed).ok()?;
            through_softmax(by_scores, weights, seen.len(), size);
            let (weights, by_scores) = (
                Slab::new(weights, shape).ok()?,
                Slab::new(by_scores, shape).ok()?,
            );
            // Sums over blocks: a key is seen by the queries of several blocks, a query belongs to one.
            let keys = seen.start * size..seen.end * size;
            product_into(by_query, by_scores, key, Right::AsIs).ok()?;
            add_product_of_transposed(&mut by_key[keys.clone()], by_scores, query).ok()?;
            add_product_of_transposed(&mut by_value[keys], weights, gradient).ok()?;
        }
        Some(())
    }
}

/// From gradients by the weights of a softmax to those by the scores before the division by √d, in place: ∂S = P ∘
/// (∂P − Σ P ∘ ∂P) / √d per row of `keys` numbers.
///
/// Keys that a query does not see have P = 0, and so get a gradient of 0.
fn through_softmax(gradients: &mut [f32], weights: &[f32], keys: usize, size: usize) {
    let scale = (size as f32).sqrt().recip();
    let rows = gradients.chunks_exact_mut(keys);
    for (gradients, weights) in rows.zip(weights.chunks_exact(keys)) {
        let products = gradients.iter().zip(weights).map(|(g, w)| g * w);
        let sum: f32 = products.sum();
        let pairs = gradients.iter_mut().zip(weights);
        pairs.for_each(|(g, w)| *g = w * (*g - sum) * scale);
    }
}
