//! Grouped-query attention: several query heads share one head of keys and values.
//!
//! ```text
//! q = norm(W_q x)    k = norm(W_k x)    v = W_v x     each split into heads of size d
//! y = W_o · concat over heads of softmax(R(q) R(k)ᵀ / √d) v      R: rotary embedding
//! ```
//!
//! Grouped-query attention: Ainslie et al., arXiv 2305.13245; the norms of heads, which Qwen3 has, are optional. On
//! the CPU and on GPUs the products run in blocks and never hold time² scores; under autodiff they do.

use burn::{module::Module, nn::RmsNorm, tensor::Tensor};

use crate::{
    Linear, Result, causal,
    decode::cache::LayerCache,
    gpu,
    host::to_host,
    norm::rms_norm,
    rotary::RotaryAngles,
    vjp,
    weights::{self, attention_weights, repeat},
};

/// Softmax(Q Kᵀ / √d) V over the tokens up to each token, with heads of size d.
///
/// Weights are out × in, as in the checkpoint.
#[derive(Module, Debug)]
pub struct Attention {
    /// hidden → heads · d
    pub query: Linear,
    /// hidden → key-value heads · d
    pub key: Linear,
    /// hidden → key-value heads · d
    pub value: Linear,
    /// heads · d → hidden
    pub output: Linear,
    /// Root-mean-square norm of each query head, over its d channels, before the rotary embedding; in Qwen3.
    pub query_norm: Option<RmsNorm>,
    /// The same for each key head; in Qwen3.
    pub key_norm: Option<RmsNorm>,
    /// Query heads.
    pub(crate) heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub(crate) key_value_heads: usize,
    /// d, channels per head; even, and in some models not hidden / heads.
    pub(crate) head_size: usize,
    /// How many tokens a query sees, itself included (sliding-window attention, Mistral); none: all before it.
    pub(crate) window: Option<usize>,
}

/// The gradients that a backward pass through attention leaves before the projections.
pub struct AttentionGradients {
    /// By the outputs of query, key and value, each batch × time × heads·d (key-value heads·d for the latter two).
    pub projections: [Tensor<3>; 3],
    /// By queries and keys after the norms of their heads and before the rotary embedding, in the same shapes; equal
    /// to the first two of `projections` where a model has no such norms.
    pub normed: [Tensor<3>; 2],
}

impl Attention {
    /// Numbers that a cache has for each token: a key and a value of each head.
    #[must_use]
    pub const fn cached_numbers(&self) -> usize {
        2 * self.key_value_heads * self.head_size
    }

    /// The attention layer with its projections: x, batch × time × hidden, to the same shape.
    ///
    /// With a cache, x holds the tokens that follow those of the cache; `angles` must be those of their positions,
    /// and the cache then holds their keys and values too.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        angles: &RotaryAngles,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let query = self.query.forward(x.clone());
        let key = self.key.forward(x.clone());
        let value = self.value.forward(x);
        self.output
            .forward(self.attend(query, key, value, angles, cache))
    }

    /// Attention between the projections: norms of query and key heads, rotary embedding, softmax(Q Kᵀ / √d) V.
    /// Takes batch × time × heads·d, or × key-value heads·d, and gives batch × time × heads·d.
    #[must_use]
    pub fn attend(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        angles: &RotaryAngles,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        // Keys enter the cache after the rotary embedding: their positions never change, so it is applied once.
        let heads = self.rotated([query, key, value], angles);
        match cache {
            Some(cache) => cache.attend(heads, |heads| self.attend_heads(heads)),
            None => self.attend_heads(heads),
        }
    }

    /// Attention over heads, from batch × heads × time × d of queries and batch × key-value heads × time × d of keys
    /// and values to batch × time × heads·d.
    fn attend_heads(&self, [query, key, value]: [Tensor<4>; 3]) -> Tensor<3> {
        let on_cpu = causal::attend(&query, &key, &value, self.window);
        let on_gpu = || gpu::attend(&query, &key, &value, self.window);
        if let Some(attended) = on_cpu.or_else(on_gpu) {
            return attended;
        }
        let weights = attention_weights(query, repeat(key, self.heads), self.window);
        joined(weights.matmul(repeat(value, self.heads)))
    }

    /// The attention mass of each token of a text: Σ over heads and later tokens of the squared attention weights
    /// that it receives; time numbers.
    ///
    /// Takes the outputs of the query and key weights, 1 × time × heads·d and 1 × time × key-value heads·d. Costs as
    /// much as the forward pass's Q Kᵀ. Fails where the device does.
    pub fn attention_mass(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        angles: &RotaryAngles,
    ) -> Result<Vec<f32>> {
        // The mass needs no values; keys stand in their place, since `rotated` takes three.
        let [query, key, _] = self.rotated([query, key.clone(), key], angles);
        causal::attention_mass(&query, &key, self.window).map_or_else(
            || {
                let key = repeat(key, self.heads);
                let weights = attention_weights(query, key, self.window);
                let squares = weights.clone() * weights;
                to_host(squares.sum_dim(1).sum_dim(2))
            },
            Ok,
        )
    }

    /// The vjp of [`attend`](Self::attend) for texts without a cache: gradients by its three inputs from the gradient
    /// by its output, batch × time × heads·d.
    ///
    /// `projections` are the outputs of query, key and value, as they entered `attend`; attention weights are
    /// computed anew from them.
    #[must_use]
    pub fn attend_backward(
        &self,
        projections: [Tensor<3>; 3],
        angles: &RotaryAngles,
        gradient: Tensor<3>,
    ) -> AttentionGradients {
        let heads = self.rotated(projections.clone(), angles);
        let [query, key, value] = &heads;
        let kernel = causal::attend_backward([query, key, value], gradient.clone(), self.window);
        let [by_query, by_key, by_value] = kernel.unwrap_or_else(|| {
            let gradient = self.split(gradient, self.heads);
            weights::attend_backward(heads, gradient, self.window)
        });
        // A rotation's transpose is its inverse: gradients go back by the opposite angles.
        let back = angles.reversed();
        let normed = [back.apply(by_query), back.apply(by_key)];
        let past = |projection, gradient: &Tensor<4>, norm: &Option<RmsNorm>, heads| {
            let Some(norm) = norm else {
                return joined(gradient.clone());
            };
            // Only the norm is differentiated by autodiff: its graph is small.
            let projection = self.split(projection, heads);
            let [gradient] = vjp([projection], gradient.clone(), |[x]| norm.forward(x));
            joined(gradient)
        };
        let [query, key, _] = projections;
        AttentionGradients {
            projections: [
                past(query, &normed[0], &self.query_norm, self.heads),
                past(key, &normed[1], &self.key_norm, self.key_value_heads),
                joined(by_value),
            ],
            normed: normed.map(joined),
        }
    }

    /// Queries, keys and values split by head, batch × heads × time × d, queries and keys normed and under the rotary
    /// embedding: from the outputs of the three projections.
    #[must_use]
    pub fn rotated(
        &self,
        [query, key, value]: [Tensor<3>; 3],
        angles: &RotaryAngles,
    ) -> [Tensor<4>; 3] {
        let query = self.split(query, self.heads);
        let key = self.split(key, self.key_value_heads);
        [
            angles.apply(normed(self.query_norm.as_ref(), query)),
            angles.apply(normed(self.key_norm.as_ref(), key)),
            self.split(value, self.key_value_heads),
        ]
    }

    /// batch × time × heads·d to batch × heads × time × d
    fn split(&self, x: Tensor<3>, heads: usize) -> Tensor<4> {
        let [batch, time, _] = x.dims();
        x.reshape([batch, time, heads, self.head_size])
            .swap_dims(1, 2)
    }
}

/// batch × heads × time × d to batch × time × heads·d
fn joined(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, time, d] = x.dims();
    x.swap_dims(1, 2).reshape([batch, time, heads * d])
}

fn normed(norm: Option<&RmsNorm>, x: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => rms_norm(norm, x),
        None => x,
    }
}
