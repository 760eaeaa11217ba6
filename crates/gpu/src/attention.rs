//! Causal attention in `f32`, tile by tile.
//!
//! ```text
//! o = Σ_j exp(s_j − m) v_j / Σ_j exp(s_j − m),  s_j = q · k_j / √d,  m = max_j s_j
//! ```
//!
//! A cube takes [`QUERIES`] queries of a head and goes through the keys that they see, [`KEYS`] at a time; m, both
//! sums and so the memory do not grow with the text (online softmax: Milakov & Gimelshein, arXiv 1805.02867; with
//! tiles: `FlashAttention`, arXiv 2205.14135). Query heads that share a head of keys and values read the same numbers.

use burn::tensor::Tensor;
use cubecl::prelude::*;

use crate::tensor::{empty_beside, plain, wrap};

/// Queries of a cube.
const QUERIES: usize = 16;

/// Keys in shared memory at a time; each unit makes one score of the 16 × 16. As many as queries, so that both are
/// loaded alike.
const KEYS: usize = QUERIES;

/// Below every score; finite, since a difference of infinities is no number.
const LEAST: f32 = -3.0e38;

/// Softmax(Q Kᵀ / √d) V. The last query stands at the last key; each query sees the keys up to its own position, and
/// of these the last `window`.
///
/// Takes batch × heads × time × d, with as many or fewer heads of keys and values, and gives batch × time × heads·d;
/// none where a tensor is not a plain one on a GPU, or heads are too wide for its shared memory.
#[must_use]
pub fn attend(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    window: Option<usize>,
) -> Option<Tensor<3>> {
    let [batch, heads, queries, size] = query.dims();
    let [_, shared, keys, _] = key.dims();
    let (query, key, value) = (plain(query)?, plain(key)?, plain(value)?);
    let bytes = size_of::<f32>() * ((QUERIES + KEYS) * size + QUERIES * KEYS);
    let properties = query.client.properties();
    if bytes > properties.hardware.max_shared_memory_size {
        return None;
    }
    let output = empty_beside(&query, &[batch, queries, heads * size]);
    attention::launch(
        &output.client.clone(),
        CubeCount::Static(queries.div_ceil(QUERIES) as u32, heads as u32, batch as u32),
        CubeDim::new_2d(KEYS as u32, QUERIES as u32),
        query.into_buffer_arg(),
        key.into_buffer_arg(),
        value.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        queries,
        keys,
        window.unwrap_or(keys),
        1.0 / (size as f32).sqrt(),
        size,
        heads / shared,
    );
    Some(wrap(output))
}

#[cube(launch)]
fn attention(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    output: &mut [f32],
    queries: usize,
    keys: usize,
    window: usize,
    factor: f32,
    #[comptime] size: usize,
    #[comptime] group: usize,
) {
    let mut q_tile = Shared::<[f32]>::new_slice(comptime!(QUERIES * size));
    // Keys first, values when the scores are made.
    let mut tile = Shared::<[f32]>::new_slice(comptime!(KEYS * size));
    let mut scores = Shared::<[f32]>::new_slice(comptime!(QUERIES * KEYS));
    let (lane, row) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let unit = UNIT_POS as usize;
    let head = CUBE_POS_Y as usize;
    let heads = CUBE_COUNT_Y as usize;
    let text = CUBE_POS_Z as usize;
    let first_query = CUBE_POS_X as usize * QUERIES;
    let q_start = (text * heads + head) * queries * size;
    let kv_start = (text * (heads / group) + head / group) * keys * size;
    load(query, q_start, first_query, queries, &mut q_tile, size);

    // Each unit of a row has some channels of the output, every 16th.
    let channels = comptime!(size.div_ceil(KEYS));
    let mut sums = Array::<f32>::new(channels);
    #[unroll]
    for c in 0..channels {
        sums[c] = 0.0;
    }
    let mut largest = f32::new(LEAST);
    let mut total = 0.0f32;
    // Positions count from the first key.
    let position = keys - queries + first_query + row;
    let behind = keys - queries + first_query + QUERIES;
    let last = select(behind < keys, behind, keys);
    let seen = keys - queries + first_query + 1;
    let mut start = 0usize.runtime();
    if seen > window {
        start = (seen - window) / KEYS * KEYS;
    }
    while start < last {
        load(key, kv_start, start, keys, &mut tile, size);
        sync_cube();
        let score = product(&q_tile, row, &tile, lane, size) * factor;
        let seen = visible(start + lane, position, window);
        scores[unit] = select(seen, score, f32::new(LEAST));
        sync_cube();
        load(value, kv_start, start, keys, &mut tile, size);
        let new_largest = largest_of(&scores, row, largest);
        let shrink = f32::exp(largest - new_largest);
        largest = new_largest;
        total *= shrink;
        #[unroll]
        for c in 0..channels {
            sums[c] *= shrink;
        }
        sync_cube();
        for j in 0..KEYS {
            // Not by the score: where no key has been seen yet, all would weigh the same.
            if visible(start + j, position, window) {
                let weight = f32::exp(scores[row * KEYS + j] - largest);
                total += weight;
                #[unroll]
                for c in 0..channels {
                    let channel = lane + c * KEYS;
                    if channel < size {
                        sums[c] += weight * tile[j * size + channel];
                    }
                }
            }
        }
        sync_cube();
        start += KEYS;
    }
    if first_query + row < queries {
        let out = ((text * queries + first_query + row) * heads + head) * size;
        #[unroll]
        for c in 0..channels {
            let channel = lane + c * KEYS;
            if channel < size {
                output[out + channel] = sums[c] / total;
            }
        }
    }
}

/// Whether a query sees the key at a position.
#[cube]
fn visible(at: usize, position: usize, window: usize) -> bool {
    at <= position && at + window > position
}

/// The product of a row of one tile and a row of another.
#[cube]
fn product(
    left: &Shared<[f32]>,
    i: usize,
    right: &Shared<[f32]>,
    j: usize,
    #[comptime] size: usize,
) -> f32 {
    let mut sum = 0.0f32;
    for c in 0..size {
        sum += left[i * size + c] * right[j * size + c];
    }
    sum
}

/// The largest score of a row, or of those before.
#[cube]
fn largest_of(scores: &Shared<[f32]>, row: usize, before: f32) -> f32 {
    let mut largest = before;
    for j in 0..KEYS {
        let score = scores[row * KEYS + j];
        largest = select(score > largest, score, largest);
    }
    largest
}

/// Copies 16 queries, keys or values from `start` on to shared memory; zeros behind the last of `count`.
#[cube]
fn load(
    from: &[f32],
    first: usize,
    start: usize,
    count: usize,
    tile: &mut Shared<[f32]>,
    #[comptime] size: usize,
) {
    let mut place = UNIT_POS as usize;
    while place < comptime!(KEYS * size) {
        let mut number = 0.0f32;
        if start + place / size < count {
            number = from[first + start * size + place];
        }
        tile[place] = number;
        place += comptime!(QUERIES * KEYS);
    }
}
