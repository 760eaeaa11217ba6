//! What cache policies cost each layer: the error of attention to a prompt.
//!
//! ```text
//! error = Σ ‖a − â‖² / Σ ‖a‖²     a: attention to the prompt's keys and values, â: to what a policy has left of them
//! ```
//!
//! Over some of the queries that follow the prompts of some windows, in the original: layers are measured apart, as if
//! those before kept all. Block by block, with one block in memory and a window per thread.

use compress_checkpoint::Checkpoint;
use compress_models::{Block, Device, Network as _, RotaryAngles, Streamed, Tensor, to_host};
use compress_think::{HeadCache, LayerPolicy};
use rayon::prelude::*;

use crate::{Result, host::length, progress::Progress, trace};

/// Queries of each head that follow a prompt and are measured, spread evenly over those that there are.
const QUERIES: usize = 64;

/// The error of each policy in each layer, by layer and policy, over windows of equal length whose first `split` tokens are
/// a prompt.
///
/// Fails where a block cannot be loaded, and on windows of different lengths. Costs a forward pass, and for each policy
/// the attention of 64 queries per head and window.
pub fn cache_errors(
    checkpoint: &Checkpoint,
    (windows, split): (&[Vec<u32>], usize),
    policies: &[LayerPolicy],
    progress: &dyn Progress,
) -> Result<Vec<Vec<f64>>> {
    let time = length(windows)?;
    let network = Streamed::open(checkpoint, &Device::flex())?;
    let angles = network.angles(0..time);
    let mut streams = windows
        .iter()
        .map(|window| Ok(network.embed(window)?))
        .collect::<Result<Vec<Tensor<3>>>>()?;
    let layers = checkpoint.config().layers;
    progress.start("caches", layers * windows.len());
    let mut errors = Vec::with_capacity(layers);
    for layer in 0..layers {
        let block = Block::load(checkpoint, layer, &Device::flex())?;
        let one = |stream: &mut Tensor<3>| {
            let sums = through(&block, stream, &angles, (split, policies))?;
            progress.advance(1);
            Ok(sums)
        };
        let sums: Vec<Vec<f64>> = streams
            .par_iter_mut()
            .with_max_len(1)
            .map(one)
            .collect::<Result<_>>()?;
        // The first sum is that of whole attention, the others those of errors.
        let total = |index: usize| sums.iter().map(|sums| sums[index]).sum::<f64>();
        let whole = total(0).max(f64::MIN_POSITIVE);
        errors.push(
            (1..=policies.len())
                .map(|index| total(index) / whole)
                .collect(),
        );
    }
    progress.finish();
    Ok(errors)
}

/// Takes a window through a block; gives Σ ‖a‖² over the queries that are measured, and Σ ‖a − â‖² for each policy.
fn through(
    block: &Block,
    stream: &mut Tensor<3>,
    angles: &RotaryAngles,
    (split, policies): (usize, &[LayerPolicy]),
) -> Result<Vec<f64>> {
    let trace = trace(block, stream.clone(), angles);
    *stream = trace.next.clone();
    let tensors = block.attention.rotated(trace.projections, angles);
    let [_, count, time, size] = tensors[0].dims();
    let shared = tensors[1].dims()[1];
    // Each head's rows, time × d.
    let heads = |tensor: Tensor<4>| -> Result<Vec<Vec<f32>>> {
        let numbers = to_host(tensor)?;
        let heads = numbers.chunks_exact(time * size);
        Ok(heads.map(<[f32]>::to_vec).collect())
    };
    let [query, key, value] = tensors;
    let (queries, keys, values) = (heads(query)?, heads(key)?, heads(value)?);
    let (group, prompt) = (count / shared, split * size);
    let mut sums = vec![0.0; 1 + policies.len()];
    for (head, (keys, values)) in keys.iter().zip(&values).enumerate() {
        let queries = &queries[head * group..(head + 1) * group];
        let mut whole = HeadCache::new(size);
        whole.extend(&keys[..prompt], &values[..prompt]);
        let step = (time - split).div_ceil(QUERIES);
        let asked = queries
            .iter()
            .flat_map(|queries| queries[prompt..].chunks_exact(size).step_by(step));
        let asked = asked.collect::<Vec<_>>().concat();
        let exact = whole.attention(&asked);
        sums[0] += squares(exact.iter().copied());
        for (policy, sum) in policies.iter().zip(&mut sums[1..]) {
            let first = (split - policy.window.min(split)) * size;
            let last: Vec<&[f32]> = queries
                .iter()
                .map(|queries| &queries[first..prompt])
                .collect();
            let mut thin = whole.clone();
            thin.thin(&last, policy);
            let found = thin.attention(&asked);
            *sum += squares(exact.iter().zip(found).map(|(a, b)| a - b));
        }
    }
    Ok(sums)
}

fn squares(numbers: impl Iterator<Item = f32>) -> f64 {
    numbers.map(|x| f64::from(x) * f64::from(x)).sum()
}
