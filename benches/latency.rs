//! Generating: one more token after 128, the shipped model whole and cut.
//!
//! ```sh
//! cargo bench --bench latency
//! ```

mod common;

use compress_models::Cache;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn next_token(c: &mut Criterion) {
    let mut group = c.benchmark_group("next token after 128");
    group.sample_size(50);
    for (name, decoder) in common::models() {
        let prompt: Vec<u32> = (0..128)
            .map(|i| i * 37 % decoder.vocabulary() as u32)
            .collect();
        let mut cache = Cache::new();
        if decoder.hidden_after(&mut cache, &prompt).is_err() {
            continue;
        }
        let step = |mut cache: Cache| {
            decoder
                .hidden_after(&mut cache, &[5])
                .map(|hidden| hidden.into_data())
        };
        group.bench_function(name, |b| {
            b.iter_batched(|| cache.clone(), step, BatchSize::SmallInput)
        });
    }
}

criterion_group!(benches, next_token);
criterion_main!(benches);
