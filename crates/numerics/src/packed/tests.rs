//! Packed products against products of the numbers that were packed, in `f64`.

use proptest::prelude::*;

use super::*;
use crate::Random;

/// A weight as it is packed, and what its numbers are.
struct Example {
    shape: Shape,
    format: (usize, usize),
    words: Vec<u32>,
    scales: Vec<f16>,
    zeros: Vec<i8>,
    numbers: Vec<f64>,
}

impl Example {
    fn new(shape: Shape, bits: usize, group: usize, symmetric: bool, random: &mut Random) -> Self {
        let groups = shape.cols / group;
        let row_words = (shape.cols * bits).div_ceil(32);
        let mut below = |limit: usize| ((random.uniform() * limit as f32) as usize).min(limit - 1);
        let scale = |n: usize| f16::from_f32(0.01 + n as f32 / 1000.0);
        let count = shape.rows * groups;
        let scales: Vec<f16> = (0..count).map(|_| scale(below(100))).collect();
        let half = 1 << (bits - 1);
        let mut zero = || (below(2 * half) as i32 - half as i32) as i8;
        let zeros = (0..if symmetric { 0 } else { count }).map(|_| zero());
        let zeros: Vec<i8> = zeros.collect();
        let mut words = vec![0; shape.rows * row_words];
        let mut numbers = Vec::new();
        for (row, words) in words.chunks_exact_mut(row_words).enumerate() {
            for i in 0..shape.cols {
                let u = below(2 * half);
                for bit in (0..bits).filter(|bit| u >> bit & 1 == 1) {
                    words[(i * bits + bit) / 32] |= 1 << ((i * bits + bit) % 32);
                }
                let g = row * groups + i / group;
                let zero = zeros.get(g).map_or(0.0, |&zero| f64::from(zero));
                numbers.push((u as f64 - half as f64 - zero) * scales[g].to_f64());
            }
        }
        Self {
            shape,
            format: (bits, group),
            words,
            scales,
            zeros,
            numbers,
        }
    }

    fn packed(&self) -> Packed<'_> {
        let Self { shape, format, .. } = *self;
        Packed::new(shape, format, &self.words, &self.scales, &self.zeros).unwrap()
    }

    /// The largest error of x · Wᵀ over ‖row of W‖ · ‖x‖.
    fn error(&self, x: &[f32], y: &[f32]) -> f64 {
        let Shape { rows, cols } = self.shape;
        let norm = |numbers: &[f64]| numbers.iter().map(|n| n * n).sum::<f64>().sqrt();
        let mut largest = 0.0_f64;
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact(rows)) {
            let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
            for (row, &y) in self.numbers.chunks_exact(cols).zip(y) {
                let exact: f64 = row.iter().zip(&x).map(|(w, x)| w * x).sum();
                let norms = (norm(row) * norm(&x)).max(1e-30);
                largest = largest.max((f64::from(y) - exact).abs() / norms);
            }
        }
        largest
    }
}

fn x(rows: usize, cols: usize, mean: f32, random: &mut Random) -> Vec<f32> {
    (0..rows * cols).map(|_| random.normal() + mean).collect()
}

proptest! {
    #[test]
    fn a_packed_weight_multiplies_like_its_numbers(
        bits in prop::sample::select(vec![2_usize, 3, 4, 8]),
        group in prop::sample::select(vec![0_usize, 8, 20, 32, 64, 96, 128]),
        groups in 1_usize..12,
        ragged in 1_usize..700,
        rows in 1_usize..40,
        t in 1_usize..12,
        mean in prop::sample::select(vec![0.0_f32, 1.0]),
        symmetric: bool,
        seed: u64,
    ) {
        let random = &mut Random(seed);
        let (cols, group) = if group == 0 { (ragged, ragged) } else { (group * groups, group) };
        let example = Example::new(Shape::new(rows, cols), bits, group, symmetric, random);
        let x = x(t, cols, mean, random);
        let slab = Slab::new(&x, Shape::new(t, cols)).unwrap();
        let error = example.error(&x, &product_of_packed(slab, example.packed()).unwrap());
        prop_assert!(error < 1e-5, "off by {error:e}");
    }
}

#[test]
fn every_typical_weight_is_multiplied_by_the_kernel_for_few_rows() {
    let random = &mut Random(1);
    for bits in [2, 3, 4, 8] {
        for cols in [288, 576, 768, 1536] {
            for group in [32, 64, 96, 128, cols] {
                if cols % group == 0 {
                    let example = Example::new(Shape::new(2, cols), bits, group, false, random);
                    let spread = example.packed().spread(&vec![0.0; cols]);
                    assert!(spread.is_some(), "{bits} {cols} {group}");
                }
            }
        }
    }
}

#[test]
fn more_groups_than_sixteen_bits_can_number_keep_their_scales() {
    let random = &mut Random(5);
    for groups in [1 << 16, (1 << 16) + 3] {
        let shape = Shape::new(1, 8 * groups);
        let example = Example::new(shape, 4, 8, true, random);
        // Only what lies behind the last group that can be numbered is multiplied by anything.
        let mut x = vec![0.0; shape.cols];
        x[shape.cols - 16..].fill(1.0);
        let slab = Slab::new(&x, Shape::new(1, shape.cols)).unwrap();
        let y = product_of_packed(slab, example.packed()).unwrap();
        let exact: f64 = example.numbers[shape.cols - 16..].iter().sum();
        assert!(
            (f64::from(y[0]) - exact).abs() < 1e-4,
            "{} for {exact}",
            y[0]
        );
    }
}

#[test]
fn the_kernel_without_special_instructions_gives_the_same() {
    fn plain<const BITS: usize>() {
        let random = &mut Random(2);
        let example = Example::new(Shape::new(9, 480), BITS, 96, false, random);
        let x = x(1, 480, 0.5, random);
        let spread = example.packed().spread(&x).unwrap();
        let scales: Vec<f32> = example.scales.iter().map(|scale| scale.to_f32()).collect();
        let row = |i: usize| Row {
            words: example.packed().words_of(i),
            scales: &scales[i * 5..][..5],
            zeros: example.packed().zeros_of(i),
        };
        let mut y = [0.0; 9];
        row::each::<_, BITS>(lanes::Plain, &mut y, &spread, row);
        assert!(example.error(&x, &y) < 1e-5);
    }
    plain::<2>();
    plain::<3>();
    plain::<4>();
    plain::<8>();
}

#[test]
fn the_number_of_threads_does_not_change_a_product() {
    let random = &mut Random(3);
    let example = Example::new(Shape::new(700, 576), 4, 64, true, random);
    for t in [1, 3, 20] {
        let x = x(t, 576, 0.0, random);
        let x = Slab::new(&x, Shape::new(t, 576)).unwrap();
        let product = || product_of_packed(x, example.packed()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        assert_eq!(pool.unwrap().install(product), product());
    }
}

#[test]
fn a_row_is_what_was_packed() {
    let random = &mut Random(4);
    for bits in [2, 3, 4, 8] {
        let example = Example::new(Shape::new(3, 100), bits, 20, false, random);
        for (index, numbers) in example.numbers.chunks(100).enumerate() {
            let row = example.packed().row(index);
            let near = |(&a, b): (&f32, &f64)| (f64::from(a) - b).abs() <= 1e-6 * b.abs();
            assert!(row.iter().zip(numbers).all(near));
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let (words, scales) = ([0; 16], [f16::ONE; 4]);
    let shape = Shape::new(2, 64);
    let refused = |bits, group, words: &[u32], zeros: &[i8]| {
        let packed = Packed::new(shape, (bits, group), words, &scales, zeros);
        matches!(packed, Err(Error::Packing { .. }))
    };
    assert!(!refused(4, 32, &words, &[]) && !refused(4, 32, &words, &[1; 4]));
    assert!(refused(4, 32, &words[..15], &[]) && refused(4, 32, &words, &[1; 3]));
    assert!(refused(4, 30, &words, &[]) && refused(4, 0, &words, &[]));
    assert!(refused(5, 32, &words, &[]) && refused(4, 64, &words, &[]));
    let x = Slab::new(&[0.0; 63], Shape::new(1, 63)).unwrap();
    let weight = Packed::new(shape, (4, 32), &words, &scales, &[]).unwrap();
    let product = product_of_packed(x, weight);
    assert!(matches!(product, Err(Error::Product { .. })));
}
