//! How fast a token of SmolLM2-135M's size is multiplied by packed weights, beside what bounds it.
//!
//! All weights of 30 blocks and the head are touched in turn, so that caches hold what they hold in
//! decoding. A time is the sum of the best times of each product: other programs on the machine cost
//! single products, not all.
//!
//! ```sh
//! cargo run --release -p compress-core --example packed_speed
//! ```

use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use compress_core::{
    Result, Shape,
    linalg::{Right, Slab, product_of_slabs},
    packed::{Packed, product_of_packed},
    testing::Random,
};
use half::f16;

/// Query, key, value, output, gate, up and down of a block.
const BLOCK: [Shape; 7] = [
    Shape::new(576, 576),
    Shape::new(192, 576),
    Shape::new(192, 576),
    Shape::new(576, 576),
    Shape::new(1536, 576),
    Shape::new(1536, 576),
    Shape::new(576, 1536),
];

/// Vocabulary × hidden.
const HEAD: Shape = Shape::new(49152, 576);

const REPEATS: usize = 12;

struct Weight {
    shape: Shape,
    format: (usize, usize),
    words: Vec<u32>,
    scales: Vec<f16>,
}

impl Weight {
    fn new(shape: Shape, bits: usize, group: usize, random: &mut Random) -> Self {
        let words = shape.rows * (shape.cols * bits).div_ceil(32);
        let scales = shape.size() / group;
        let mut word = || (random.uniform() * 65536.0) as u32;
        Self {
            shape,
            format: (bits, group),
            words: (0..words).map(|_| word() << 16 | word()).collect(),
            scales: vec![f16::from_f32(0.01); scales],
        }
    }

    fn packed(&self) -> Result<Packed<'_>> {
        Packed::new(self.shape, self.format, &self.words, &self.scales, &[])
    }
}

fn main() -> Result<()> {
    let random = &mut Random(1);
    let x: Vec<f32> = (0..1536).map(|_| random.normal()).collect();
    println!("threads: {}", rayon::current_num_threads());
    let block = |bits, group, random: &mut Random| -> Vec<Weight> {
        let shapes = (0..30).flat_map(|_| BLOCK);
        shapes
            .map(|shape| Weight::new(shape, bits, group, random))
            .collect()
    };
    for (bits, group) in [(4, 32), (4, 64), (3, 32), (2, 64), (8, 64)] {
        let weights = block(bits, group, random);
        report(
            &format!("210 weights, int{bits} in groups of {group}"),
            &weights,
            &x,
        )?;
    }
    let head: Vec<Weight> = vec![Weight::new(HEAD, 8, 576, random)];
    report("head, int8 by rows", &head, &x)?;
    dense(&x)?;
    whole_tokens(&block(4, 64, random), &head, &x)
}

/// The sum of each weight's best time, in milliseconds.
fn best(count: usize, mut one: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut best = vec![f64::INFINITY; count];
    for _ in 0..REPEATS {
        for (index, best) in best.iter_mut().enumerate() {
            let start = Instant::now();
            one(index)?;
            *best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(best.iter().sum())
}

fn report(what: &str, weights: &[Weight], x: &[f32]) -> Result<()> {
    let multiply = |index: usize| {
        let Shape { cols, .. } = weights[index].shape;
        let x = Slab::new(&x[..cols], Shape::new(1, cols))?;
        black_box(product_of_packed(x, weights[index].packed()?)?);
        Ok(())
    };
    let shared = best(weights.len(), multiply)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let alone = pool.map(|pool| pool.install(|| best(weights.len(), multiply)));
    let alone = alone.unwrap_or(Ok(f64::NAN))?;
    let floor = best(weights.len(), |index| {
        let words = weights[index].words.iter();
        black_box(words.fold(0_u64, |sum, &word| sum.wrapping_add(u64::from(word))));
        Ok(())
    })?;
    println!(
        "{what}: {shared:.2} ms shared, {alone:.2} ms on one thread, {floor:.2} ms to add up their words"
    );
    Ok(())
}

/// The same products with weights in f32, by the kernel for matrices.
fn dense(x: &[f32]) -> Result<()> {
    let weights: Vec<(Shape, Vec<f32>)> = (0..30)
        .flat_map(|_| BLOCK)
        .map(|shape| (shape, vec![0.01; shape.size()]))
        .collect();
    let time = best(weights.len(), |index| {
        let (shape, weight) = &weights[index];
        let x = Slab::new(&x[..shape.cols], Shape::new(1, shape.cols))?;
        black_box(product_of_slabs(
            x,
            Slab::new(weight, *shape)?,
            Right::Transposed,
        )?);
        Ok(())
    })?;
    println!("210 weights in f32: {time:.2} ms shared");
    Ok(())
}

/// Tokens from first to last product: handed to the pool product by product, and by two threads that
/// wait for each other in a loop.
fn whole_tokens(weights: &[Weight], head: &[Weight], x: &[f32]) -> Result<()> {
    let all: Vec<Packed<'_>> = weights
        .iter()
        .chain(head)
        .map(Weight::packed)
        .collect::<Result<_>>()?;
    let mut by_pool = f64::INFINITY;
    for _ in 0..REPEATS * 4 {
        let start = Instant::now();
        for packed in &all {
            let cols = packed.shape().cols;
            black_box(product_of_packed(
                Slab::new(&x[..cols], Shape::new(1, cols))?,
                *packed,
            )?);
        }
        by_pool = by_pool.min(start.elapsed().as_secs_f64() * 1e3);
    }
    let arrived = AtomicUsize::new(0);
    let meet = |times: &mut usize| {
        *times += 2;
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < *times {
            spin_loop();
        }
    };
    let half = |side: usize| {
        let (mut times, mut best) = (0, f64::INFINITY);
        let mut out = vec![0.0; HEAD.rows];
        for _ in 0..REPEATS * 4 {
            let start = Instant::now();
            for packed in &all {
                let Shape { rows, cols } = packed.shape();
                let middle = rows / 2;
                if let Some(x) = packed.spread(&x[..cols]) {
                    packed.multiply(&x, side * middle, &mut out[side * middle..][..middle]);
                }
                meet(&mut times);
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        best
    };
    let by_halves = thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let best = half(0);
        drop(other.join());
        best
    });
    println!(
        "a token, int4 in groups of 64 and the head: {by_pool:.2} ms by the pool, {by_halves:.2} ms by two threads that spin"
    );
    Ok(())
}
