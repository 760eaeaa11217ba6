//! Generating: one more token after 128, the shipped model whole, cut and rounded.
//!
//! ```sh
//! cargo bench --bench latency
//! ```

mod common;

use compress_models::{Cache, Decoder, Result, Tensor};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn next_token(c: &mut Criterion) {
    let mut group = c.benchmark_group("next token after 128");
    group.sample_size(50);
    for (name, decoder) in common::models() {
        let prompt: Vec<u32> = (0..127)
            .map(|i| i * 37 % decoder.vocabulary() as u32)
            .collect();
        let mut cache = Cache::new();
        if decoder.hidden_after(&mut cache, &prompt).is_err() {
            continue;
        }
        // A clone has no room for another token; the first makes it, and is not timed.
        let prepare = || {
            let mut cache = cache.clone();
            next(&decoder, &mut cache).map(|_| cache)
        };
        let step = |cache: Result<Cache>| next(&decoder, &mut cache?);
        group.bench_function(name, |b| {
            b.iter_batched(prepare, step, BatchSize::SmallInput)
        });
    }
}

fn next(decoder: &Decoder, cache: &mut Cache) -> Result<Tensor<2>> {
    let hidden = decoder.hidden_after(cache, &[5])?;
    let width = hidden.dims()[2];
    Ok(decoder.logits(hidden.reshape([1, width])))
}

criterion_group!(benches, next_token);
criterion_main!(benches);
