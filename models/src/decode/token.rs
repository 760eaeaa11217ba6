//! One token through all blocks on the CPU: the inner loop of decoding.
//!
//! With one token each product is a matrix times a vector, bound by reading the matrix. A tensor library's overhead,
//! twenty operations in a block, would take longer than the products of packed weights. So this works on plain
//! vectors and kernels for them, on threads that share the rows of every product.
//!
//! Gives `None` where there is more than one token, or a tensor is not plain `f32` on the CPU; the caller then runs
//! [`Block::forward`](crate::Block::forward).

pub mod plain;

use std::sync::Arc;

use burn::{module::Param, tensor::Tensor};
use compress_numerics::{
    kernels::{SpinPool, rotate_halves, swiglu},
    threads,
};
use compress_think::{HeadCache, Queries};

use super::cache::LayerCache;
use crate::{
    Attention, Cache, Decoder, Weight,
    host::{self, tensor},
};
use plain::{Input, Layer, Layers, Network, add};

/// Numbers of a block's weights that are worth one more thread.
const EACH: usize = 1 << 18;

/// A product of fewer numbers is done by the calling thread: another would take as long to wake up.
const ALONE: usize = 1 << 15;

/// The residual stream after the last norm from the one before the first block, both 1 × 1 × hidden, for the token
/// that follows those of the cache; its keys and values are then in the cache.
///
/// None, and nothing done, where there are more tokens, or anything is not on the CPU, or differentiated; and for a
/// prompt of one token that a policy is to be applied to.
pub fn hidden_after(decoder: &Decoder, cache: &mut Cache, x: &Tensor<3>) -> Option<Tensor<3>> {
    let [1, 1, width] = x.dims() else {
        return None;
    };
    if cache.is_thinned_next() {
        return None;
    }
    let network = match &cache.network {
        Some(network) => network.clone(),
        None => Arc::new(Network::of(decoder)?),
    };
    let x = host::plain(x)?;
    let h = host::numbers(&x)?.to_vec();
    let token = Token::new(decoder, &network, cache)?;
    let threads = threads(network.blocks.first().map_or(0, Layers::size), EACH);
    let (hidden, new) = token.run(&SpinPool::new(threads), h);
    // Only now, behind everything that may give `None`, does the cache change.
    let layers = cache.layers.iter_mut().zip(&decoder.blocks);
    for ((layer, block), [key, value]) in layers.zip(&new) {
        layer.push(key, value, block.attention.head_size);
    }
    cache.length += 1;
    cache.network = Some(network);
    Some(tensor(hidden, [1, 1, width]))
}

/// The logits of one token, 1 × vocabulary from 1 × hidden, by the weight and the bias of the head.
///
/// None where there are more tokens, or anything is not on the CPU, or differentiated.
pub fn logits(head: &Weight, bias: Option<&Param<Tensor<1>>>, x: &Tensor<2>) -> Option<Tensor<2>> {
    let [1, _] = x.dims() else { return None };
    let layer = Arc::new(Layer::of(head, bias)?);
    let x = host::plain(x)?;
    let pool = SpinPool::new(threads(layer.size(), EACH));
    let [logits] = products(&pool, [&layer], host::numbers(&x)?.to_vec());
    let count = logits.len();
    Some(tensor(logits, [1, count]))
}

/// The network, the cache and the position's rotation, which stay the same while a token passes the blocks.
struct Token<'a> {
    decoder: &'a Decoder,
    network: &'a Network,
    /// Keys and values of earlier tokens, block by block and head by head.
    past: Vec<&'a Arc<Vec<HeadCache>>>,
    /// Cosine and sine of the rotary embedding at the token's position, d/2 of each.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl<'a> Token<'a> {
    /// None where the cache is not on the CPU.
    fn new(decoder: &'a Decoder, network: &'a Network, cache: &'a Cache) -> Option<Self> {
        let past = cache.layers.iter().map(LayerCache::heads);
        let angle = |function| decoder.rotary.angle(cache.length, function);
        Some(Self {
            decoder,
            network,
            past: past.collect::<Option<_>>()?,
            cos: angle(f64::cos),
            sin: angle(f64::sin),
        })
    }

    /// The residual stream after the last norm, and the token's own key and value of each block, from h, the stream
    /// before the first block.
    fn run(&self, pool: &SpinPool, mut h: Vec<f32>) -> (Vec<f32>, Vec<[Vec<f32>; 2]>) {
        let mut new = Vec::with_capacity(self.past.len());
        let blocks = self.network.blocks.iter().zip(&self.decoder.blocks);
        for ((layers, block), past) in blocks.zip(&self.past) {
            let x = layers.attention_norm.forward(&h);
            let [query, key, value] =
                products(pool, [&layers.query, &layers.key, &layers.value], x);
            let [query, key] = self.rotated(layers, [query, key]);
            // The cache is not touched yet: attention reads the past and, beside it, this token's key and value.
            let attended = attend(pool, &block.attention, past, (query, &key, &value));
            let [x] = products(pool, [&layers.output], attended);
            add(&mut h, &x);
            let x = layers.feed_forward_norm.forward(&h);
            let gated = gated(pool, [&layers.gate, &layers.up], x);
            let [x] = products(pool, [&layers.down], gated);
            add(&mut h, &x);
            new.push([key, value]);
        }
        (self.network.norm.forward(&h), new)
    }

    /// Queries and keys of one token, normed by head where the model does so, and under the rotary embedding.
    fn rotated(&self, layers: &Layers, heads: [Vec<f32>; 2]) -> [Vec<f32>; 2] {
        let [mut query, mut key] = heads;
        if let Some(norm) = &layers.query_norm {
            query = norm.forward(&query);
        }
        if let Some(norm) = &layers.key_norm {
            key = norm.forward(&key);
        }
        for heads in [&mut query, &mut key] {
            rotate_halves(heads, &self.cos, &self.sin);
        }
        [query, key]
    }
}

/// W x of several layers for the same x, all of their rows shared among the pool's threads at once.
fn products<const N: usize>(
    pool: &SpinPool,
    layers: [&Arc<Layer>; N],
    x: Vec<f32>,
) -> [Vec<f32>; N] {
    let layers = layers.map(Arc::clone);
    let x = Arc::new(Input::new(x, &layers));
    let inner = shrunk(pool, &layers, &x);
    let counts = layers.each_ref().map(|layer| layer.outputs());
    pool.make(counts, move |i, rows| {
        layers[i].multiply(&x, &inner[i], rows)
    })
}

/// silu(gate x) ⊙ up x, of the intermediate width; each thread does both products for its rows.
fn gated(pool: &SpinPool, layers: [&Arc<Layer>; 2], x: Vec<f32>) -> Vec<f32> {
    let layers = layers.map(Arc::clone);
    let x = Arc::new(Input::new(x, &layers));
    let inner = shrunk(pool, &layers, &x);
    let [gated] = pool.make([layers[0].outputs()], move |_, rows| {
        let mut gate = layers[0].multiply(&x, &inner[0], rows.clone());
        swiglu(&mut gate, &layers[1].multiply(&x, &inner[1], rows));
        gate
    });
    gated
}

/// down · x of those layers that have a low-rank pair, ready for their second factor.
fn shrunk<const N: usize>(pool: &SpinPool, layers: &[Arc<Layer>; N], x: &Arc<Input>) -> [Input; N] {
    let ranks = layers.each_ref().map(|layer| layer.rank());
    // Small ranks: waking the pool would take longer than the products.
    let shrunk = if ranks.iter().sum::<usize>() * x.len() < ALONE {
        std::array::from_fn(|i| layers[i].shrink(x, 0..ranks[i]))
    } else {
        let (layers, x) = (layers.clone(), x.clone());
        pool.make(ranks, move |i, rows| layers[i].shrink(&x, rows))
    };
    let mut shrunk = shrunk.into_iter();
    layers
        .each_ref()
        .map(|layer| layer.inner(shrunk.next().unwrap_or_default()))
}

/// Attention of all query heads of one token: heads · d. Each page of each head is a piece of work.
fn attend(
    pool: &SpinPool,
    attention: &Attention,
    past: &Arc<Vec<HeadCache>>,
    (query, key, value): (Vec<f32>, &[f32], &[f32]),
) -> Vec<f32> {
    let size = attention.head_size;
    let group = attention.heads / attention.key_value_heads;
    let heads = query.chunks_exact(group * size);
    let heads: Arc<Vec<Queries>> =
        Arc::new(heads.map(|q| Queries::new(q.to_vec(), size)).collect());
    // All heads have the same tokens, and so the same pages.
    let first = past.first();
    let pages = first.map_or(0, HeadCache::pages);
    // The window counts the token itself, whose key is not in the cache yet.
    let held = first.map_or(0, HeadCache::tokens);
    let before = |window: usize| (held + 1).saturating_sub(window);
    let unseen = attention.window.map_or(0, before);
    let [parts] = pool.make([heads.len() * pages], {
        let (heads, past) = (heads.clone(), past.clone());
        move |_, pieces| {
            let pieces = pieces.map(|piece| (piece / pages, piece % pages));
            let parts =
                pieces.flat_map(|(head, page)| heads[head].parts(&past[head], page, unseen));
            parts.collect()
        }
    });
    let each = parts.len() / heads.len().max(1);
    let own = key.chunks_exact(size).zip(value.chunks_exact(size));
    let joined = heads.iter().zip(own).enumerate();
    let joined = joined.flat_map(|(head, (queries, (key, value)))| {
        queries.join(&parts[head * each..(head + 1) * each], Some([key, value]))
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use compress_checkpoint::Checkpoint;

    use super::*;

    const TEXT: [u32; 5] = [3, 1, 4, 1, 5];

    fn decoder(device: &Device) -> Decoder {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/networks/qwen3"
        );
        Decoder::load(&Checkpoint::open(folder.as_ref()).unwrap(), device).unwrap()
    }

    #[test]
    fn any_number_of_threads_gives_the_same() {
        let decoder = decoder(&Device::flex());
        let mut cache = Cache::new();
        decoder.hidden_after(&mut cache, &TEXT).unwrap();
        let network = Network::of(&decoder).unwrap();
        let token = Token::new(&decoder, &network, &cache).unwrap();
        let x = decoder.embed(&[&[9]]).unwrap().into_data();
        let x: Vec<f32> = x.try_into_vec().unwrap();
        let alone = token.run(&SpinPool::new(1), x.clone());
        for threads in [2, 3, 7] {
            let together = token.run(&SpinPool::new(threads), x.clone());
            assert_eq!(together, alone, "{threads} threads");
        }
    }

    #[test]
    fn what_is_not_one_plain_token_is_left_to_burn() {
        for (device, plain) in [(Device::flex(), true), (Device::flex().autodiff(), false)] {
            let decoder = decoder(&device);
            let mut cache = Cache::new();
            decoder.hidden_after(&mut cache, &TEXT).unwrap();
            let two = decoder.embed(&[&[9, 2]]).unwrap();
            assert!(hidden_after(&decoder, &mut cache, &two).is_none());
            assert_eq!(cache.len(), TEXT.len());
            let one = decoder.embed(&[&[9]]).unwrap();
            assert_eq!(hidden_after(&decoder, &mut cache, &one).is_some(), plain);
            assert_eq!(cache.len(), TEXT.len() + usize::from(plain));
        }
    }
}
