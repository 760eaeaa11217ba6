//! Dot products: a row-major matrix times one vector.
//!
//! ```text
//! y = W x,  W: out × in
//! ```
//!
//! With one vector no number of W is used twice: the cost is that of reading W from memory once. Two rows at a time are
//! two streams for the processor to prefetch, and read x half as often; one from each half of W, since processors
//! follow a stream by its page, and rows next to each other share one: on an EPYC that takes twice as long.
//!
//! Sums run in 32 lanes, in an order that only the length of a row decides.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use super::vectorized;

/// Partial sums side by side: two vectors of AVX-512 or four of AVX2, so that no addition waits for the latency of the
/// one before.
const LANES: usize = 32;

/// Partial sums of what is left of a row, and the last steps: one AVX2 vector.
const FEW: usize = 8;

/// y = W x for `out.len()` rows of `x.len()` numbers, on this thread.
pub fn multiply_rows(rows: &[f32], x: &[f32], out: &mut [f32]) {
    vectorized(
        #[inline(always)]
        move || {
            let width = x.len().max(1);
            let half = out.len() / 2;
            let (first, second) = rows.split_at(half * width);
            let (out, others) = out.split_at_mut(half);
            let rows = first.chunks_exact(width).zip(second.chunks_exact(width));
            for ((a, b), (row, other)) in out.iter_mut().zip(others.iter_mut()).zip(rows) {
                [*a, *b] = dots([row, other], x);
            }
            // Of an odd number of rows the last one.
            let last = second.chunks_exact(width).nth(half);
            if let (Some(out), Some(row)) = (others.get_mut(half), last) {
                *out = dot(row, x);
            }
        },
    );
}

/// Σ a b, summed in an order that only the length decides.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let [sum] = dots([a], b);
    sum
}

/// [`dot`] of several vectors with one, at once.
#[inline(always)]
fn dots<const R: usize>(rows: [&[f32]; R], b: &[f32]) -> [f32; R] {
    let (whole, b) = b.as_chunks::<LANES>();
    let rows = rows.map(|a| a.as_chunks::<LANES>());
    // The joining of 32 lanes costs more than a short row itself.
    let sums = if whole.is_empty() {
        [0.0; R]
    } else {
        lanes(rows.map(|a| a.0), whole).map(|lanes| joined(lanes, |a, b| a + b))
    };
    // Rows of a low-rank factor may be no longer than this: 32 lanes would leave all of them to the scalar rest.
    let (few, b) = b.as_chunks::<FEW>();
    let rows = rows.map(|a| a.1.as_chunks::<FEW>());
    let short = lanes(rows.map(|a| a.0), few).map(|lanes| joined_few(lanes, |a, b| a + b));
    std::array::from_fn(|r| {
        let rest = rows[r].1.iter().zip(b);
        rest.fold(sums[r] + short[r], |sum, (a, b)| sum + a * b)
    })
}

/// Σ a b of several vectors with one, lane by lane; without the joining of lanes.
#[inline(always)]
fn lanes<const R: usize, const N: usize>(rows: [&[[f32; N]]; R], b: &[[f32; N]]) -> [[f32; N]; R] {
    let mut sums = [[0.0; N]; R];
    for (i, b) in b.iter().enumerate() {
        for (sums, a) in sums.iter_mut().zip(rows) {
            for ((sum, a), b) in sums.iter_mut().zip(&a[i]).zip(b) {
                *sum += a * b;
            }
        }
    }
    sums
}

/// The largest number; negative infinity where there is none.
#[must_use]
pub fn largest(numbers: &[f32]) -> f32 {
    vectorized(
        #[inline(always)]
        move || {
            let larger = |most, x| if x > most { x } else { most };
            fold(numbers, f32::NEG_INFINITY, larger)
        },
    )
}

/// All numbers joined by an operation whose order does not matter but for rounding; `start` is its neutral element.
#[inline(always)]
pub(crate) fn fold(numbers: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = numbers.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, *x);
        }
    }
    let all = joined(lanes, &join);
    rest.iter().fold(all, |all, x| join(all, *x))
}

/// Joins the upper half to the lower, until one is left. The arrays have constant lengths, so that they stay in
/// registers.
#[inline(always)]
fn joined(lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let lanes: [f32; 16] = std::array::from_fn(|i| join(lanes[i], lanes[i + 16]));
    joined_few(
        std::array::from_fn(|i| join(lanes[i], lanes[i + FEW])),
        join,
    )
}

#[inline(always)]
fn joined_few(lanes: [f32; FEW], join: impl Fn(f32, f32) -> f32) -> f32 {
    let lanes: [f32; 4] = std::array::from_fn(|i| join(lanes[i], lanes[i + 4]));
    join(join(lanes[0], lanes[2]), join(lanes[1], lanes[3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        assert_eq!(largest(&[]).to_bits(), f32::NEG_INFINITY.to_bits());
        for (count, place) in [(1, 0), (31, 30), (64, 33), (70, 69)] {
            let mut numbers = vec![-2.0; count];
            numbers[place] = -1.0;
            assert_eq!(largest(&numbers).to_bits(), (-1.0_f32).to_bits());
        }
    }

    #[test]
    fn each_row_is_multiplied_and_summed() {
        let mut random = Random(1);
        for (rows, cols) in [(1, 1), (9, 8), (3, 31), (2, 32), (5, 33), (7, 576)] {
            let weight: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
            let x: Vec<f32> = (0..cols).map(|_| random.normal()).collect();
            let mut out = vec![7.0; rows];
            multiply_rows(&weight, &x, &mut out);
            for (row, found) in weight.chunks(cols).zip(out) {
                let products = row.iter().zip(&x);
                let exact: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                assert!((f64::from(found) - exact).abs() < 1e-5 * (cols as f64).sqrt());
            }
        }
    }
}
