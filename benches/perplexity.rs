//! Scoring a text: the shipped model whole and cut, one window of 256 tokens.
//!
//! ```sh
//! cargo bench --bench perplexity
//! ```

mod common;

use compress_evaluate::perplexity;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn scoring(c: &mut Criterion) {
    let mut group = c.benchmark_group("perplexity of one window");
    group.sample_size(20).throughput(Throughput::Elements(255));
    for (name, decoder) in common::models() {
        let window: Vec<u32> = (0..256)
            .map(|i| i * 37 % decoder.vocabulary() as u32)
            .collect();
        group.bench_function(name, |b| {
            b.iter(|| perplexity(&decoder, std::slice::from_ref(&window), &|_| ()))
        });
    }
}

criterion_group!(benches, scoring);
criterion_main!(benches);
