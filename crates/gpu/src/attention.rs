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

/// Keys in shared memory at a time; each unit makes one score of the 16 × 16.
const KEYS: usize = 16;

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
    let q_start = ((text * heads + head) * queries + first_query) * size;
    let kv_start = (text * (heads / group) + head / group) * keys * size;

    let mut place = unit;
    while place < comptime!(QUERIES * size) {
        let mut number = 0.0f32;
        if first_query + place / size < queries {
            number = query[q_start + place];
        }
        q_tile[place] = number;
        place += comptime!(QUERIES * KEYS);
    }

    // Each unit of a row has some channels of the output, every 16th.
    let channels = comptime!(size.div_ceil(KEYS));
    let mut sums = Array::<f32>::new(channels);
    #[unroll]
    for c in 0..channels {
        sums[c] = 0.0;
    }
    let mut largest = f32::new(-3.0e38);
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
        let mut score = 0.0f32;
        for c in 0..size {
            score += q_tile[row * size + c] * tile[lane * size + c];
        }
        let at = start + lane;
        let visible = at <= position && at + window > position;
        scores[unit] = select(visible, score * factor, f32::new(-3.0e38));
        sync_cube();
        load(value, kv_start, start, keys, &mut tile, size);
        let mut new_largest = largest;
        for j in 0..KEYS {
            let score = scores[row * KEYS + j];
            new_largest = select(score > new_largest, score, new_largest);
        }
        let shrink = f32::exp(largest - new_largest);
        largest = new_largest;
        total *= shrink;
        #[unroll]
        for c in 0..channels {
            sums[c] *= shrink;
        }
        sync_cube();
        for j in 0..KEYS {
            let at = start + j;
            // Not by the score: where no key has been seen yet, all would weigh the same.
            if at <= position && at + window > position {
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

/// Copies keys or values from `start` on to shared memory; zeros behind the last.
#[cube]
fn load(
    from: &[f32],
    first: usize,
    start: usize,
    keys: usize,
    tile: &mut Shared<[f32]>,
    #[comptime] size: usize,
) {
    let mut place = UNIT_POS as usize;
    while place < comptime!(KEYS * size) {
        let mut number = 0.0f32;
        if start + place / size < keys {
            number = from[first + start * size + place];
        }
        tile[place] = number;
        place += comptime!(QUERIES * KEYS);
    }
}
