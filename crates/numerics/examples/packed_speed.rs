//! The speed of packed products for a token of SmolLM2-135M, beside the bounds of memory and of thread hand-over.
//!
//! All weights of 30 blocks and the head are touched in turn, so that caches hold what they hold in
//! decoding. A time is the sum of the best times of each product: other programs on the machine cost
//! single products, not all.
//!
//! ```sh
//! cargo run --release -p compress-numerics --example packed_speed
//! ```

use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use compress_numerics::{
    Random, Result, Shape,
    linalg::{Right, Slab, product_of_slabs},
    packed::{Packed, product_of_packed},
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

const REPEATS: usize = 40;

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
    prefill(random)?;
    hand_over();
    whole_token(&block(4, 64, random), &head, &x)
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
    // The bound of memory: every word is read once, and nothing else is done with it.
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

/// The products of a token by the pool, and by two threads that wait for each other in a loop.
fn whole_token(weights: &[Weight], head: &[Weight], x: &[f32]) -> Result<()> {
    let all = weights.iter().chain(head).map(Weight::packed);
    let all: Vec<Packed<'_>> = all.collect::<Result<_>>()?;
    let by_pool = best(all.len(), |index| {
        let cols = all[index].shape().cols;
        let x = Slab::new(&x[..cols], Shape::new(1, cols))?;
        black_box(product_of_packed(x, all[index])?);
        Ok(())
    })?;
    let arrived = AtomicUsize::new(0);
    let half = |side: usize| {
        let (mut meetings, mut out) = (0, vec![0.0; HEAD.rows]);
        best(all.len(), |index| {
            let Shape { rows, cols } = all[index].shape();
            let middle = rows / 2;
            if let Some(x) = all[index].spread(&x[..cols]) {
                all[index].multiply(&x, side * middle, &mut out[side * middle..][..middle]);
            }
            meetings += 2;
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < meetings {
                spin_loop();
            }
            Ok(())
        })
    };
    let by_halves = thread::scope(|scope| {
        scope.spawn(|| half(1));
        half(0)
    })?;
    println!(
        "a token, int4 in groups of 64 and the head: {by_pool:.2} ms by the pool, {by_halves:.2} ms by two threads that spin"
    );
    Ok(())
}

/// Many rows of x, by panels, beside the same in f32.
fn prefill(random: &mut Random) -> Result<()> {
    const TEXT: usize = 512;
    let weight = Weight::new(Shape::new(1536, 576), 4, 64, random);
    let (x, dense) = (vec![0.5; TEXT * 576], vec![0.01; weight.shape.size()]);
    let x = Slab::new(&x, Shape::new(TEXT, 576))?;
    let packed = best(1, |_| {
        black_box(product_of_packed(x, weight.packed()?)?);
        Ok(())
    })?;
    let whole = best(1, |_| {
        let dense = Slab::new(&dense, weight.shape)?;
        black_box(product_of_slabs(x, dense, Right::Transposed)?);
        Ok(())
    })?;
    println!("512 × 576 by 1536 × 576: {packed:.2} ms packed, {whole:.2} ms in f32");
    Ok(())
}

/// The time to hand an empty task to the pool.
fn hand_over() {
    let mut joined = f64::INFINITY;
    for _ in 0..2000 {
        let start = Instant::now();
        rayon::join(|| black_box(0), || black_box(1));
        joined = joined.min(start.elapsed().as_secs_f64() * 1e6);
    }
    println!("handing nothing to the pool: {joined:.2} µs");
}
