//! A symmetric matrix times one vector, from its lower triangle: BLAS's `symv`.
//!
//! ```text
//! y = A v      element a of column j and row i > j adds a·vⱼ to yᵢ and a·vᵢ to yⱼ
//! ```
//!
//! Each number of the triangle is read once and used twice: the cost is that of reading it. The columns are cut into
//! parts of equal area, each with a y of its own, which are summed in the end; how many there are, the size alone
//! decides, so that the bytes are the same for any number of threads.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use std::ops::Range;

use faer::Mat;
use rayon::prelude::*;

use crate::kernels::vectorized;
use crate::linalg::Real;

/// Most parts of a matrix, and the numbers that make another part worth a thread's waking.
const PARTS: usize = 16;
const PART: usize = 1 << 18;

/// Columns that are read together, so that y is read and written once for all of them.
const COLUMNS: usize = 4;

/// Rows that are multiplied together: with four columns the sums of eight `f32` fill no more registers than there are.
const LANES: usize = 8;

/// The memory for the y of all parts.
pub(super) struct Symv<T>(Vec<T>);

impl<T: Real> Symv<T> {
    /// For matrices of up to n × n.
    pub fn new(n: usize) -> Self {
        Self(vec![T::from_f32(0.0); n * PARTS])
    }

    /// y = A v, of the lower triangle of a matrix from row and column `first` on.
    pub fn multiply(&mut self, a: &Mat<T>, first: usize, v: &[T], y: &mut [T]) {
        let n = v.len();
        let parts = (n * n / 2 / PART).clamp(1, PARTS);
        let sums = &mut self.0[..n * parts];
        let work = |(part, sums): (usize, &mut [T])| {
            let (from, to) = (column(n, part, parts), column(n, part + 1, parts));
            sums.fill(T::from_f32(0.0));
            trapezoid(a, (first, from..to), v, sums);
        };
        if parts == 1 {
            work((0, sums));
        } else {
            let parts = sums.par_chunks_exact_mut(n).enumerate();
            parts.with_max_len(1).for_each(work);
        }
        let (one, others) = self.0[..n * parts].split_at(n);
        y.copy_from_slice(one);
        for other in others.chunks_exact(n) {
            y.iter_mut().zip(other).for_each(|(y, x)| *y += *x);
        }
    }
}

/// The first column of a part: the triangle of the columns from there on has what is left of the area.
fn column(n: usize, part: usize, parts: usize) -> usize {
    let left = (parts - part) as f64 / parts as f64;
    let column = ((1.0 - left.sqrt()) * n as f64) as usize;
    if part == parts {
        n
    } else {
        column / COLUMNS * COLUMNS
    }
}

/// Adds what some columns of the lower triangle give.
fn trapezoid<T: Real>(a: &Mat<T>, (first, columns): (usize, Range<usize>), v: &[T], y: &mut [T]) {
    vectorized(
        #[inline(always)]
        move || {
            let column = |j: usize| &a.col_as_slice(first + j)[first..];
            let mut j = columns.start;
            while j + COLUMNS <= columns.end {
                let four = std::array::from_fn(|c| column(j + c));
                corner(&four, j, v, y);
                strip(four, j, v, y);
                j += COLUMNS;
            }
            for j in j..columns.end {
                corner(&[column(j)], j, v, y);
                let (above, below) = y.split_at_mut(j + 1);
                let rows = below.iter_mut().zip(&v[j + 1..]);
                for ((y, v_i), a) in rows.zip(&column(j)[j + 1..]) {
                    *y += *a * v[j];
                    above[j] += *a * *v_i;
                }
            }
        },
    );
}

/// Adds what the small triangle at the diagonal gives, of C columns from column j on.
#[inline(always)]
fn corner<T: Real, const C: usize>(columns: &[&[T]; C], j: usize, v: &[T], y: &mut [T]) {
    for (c, column) in columns.iter().enumerate() {
        y[j + c] += column[j + c] * v[j + c];
        for i in j + c + 1..j + C {
            y[i] += column[i] * v[j + c];
            y[j + c] += column[i] * v[i];
        }
    }
}

/// Adds what the rows below that triangle give, of four columns from column j on.
///
/// Columns are written out instead of looped over: sums must lie in registers whatever the compiler unrolls.
#[inline(always)]
fn strip<T: Real>(columns: [&[T]; COLUMNS], j: usize, v: &[T], y: &mut [T]) {
    let [b0, b1, b2, b3] = [v[j], v[j + 1], v[j + 2], v[j + 3]];
    let below = j + COLUMNS;
    let (v, v_rest) = v[below..].as_chunks::<LANES>();
    let (at_columns, y) = y.split_at_mut(below);
    let (y, y_rest) = y.as_chunks_mut::<LANES>();
    let [c0, c1, c2, c3] = columns.map(|column| &column[below..]);
    let [c0, c1, c2, c3] = [c0, c1, c2, c3].map(|column| column.as_chunks::<LANES>());
    let zero = [T::from_f32(0.0); LANES];
    let [mut s0, mut s1, mut s2, mut s3] = [zero; COLUMNS];
    let rows = c0.0.iter().zip(c1.0).zip(c2.0).zip(c3.0);
    for ((((a0, a1), a2), a3), (v, y)) in rows.zip(v.iter().zip(y)) {
        // A copy of y stays in registers; through the reference, each store might change what is read next.
        let mut new = *y;
        for l in 0..LANES {
            new[l] = new[l] + a0[l] * b0 + a1[l] * b1 + a2[l] * b2 + a3[l] * b3;
            s0[l] += a0[l] * v[l];
            s1[l] += a1[l] * v[l];
            s2[l] += a2[l] * v[l];
            s3[l] += a3[l] * v[l];
        }
        *y = new;
    }
    let columns = [
        (s0, c0.1, b0),
        (s1, c1.1, b1),
        (s2, c2.1, b2),
        (s3, c3.1, b3),
    ];
    for ((sums, rest, by), out) in columns.into_iter().zip(&mut at_columns[j..]) {
        *out = sums.iter().fold(*out, |sum, x| sum + *x);
        for ((a, v), y) in rest.iter().zip(v_rest).zip(&mut *y_rest) {
            *y += *a * by;
            *out += *a * *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn the_lower_triangle_times_a_vector() {
        let mut random = Random(9);
        // One part and several; rows that are left of lanes, and columns that are left of four.
        for (n, first) in [(1, 0), (2, 1), (7, 3), (45, 0), (1030, 2)] {
            let size = first + n;
            // What is above the diagonal is not read.
            let a = Mat::from_fn(size, size, |i, j| {
                if i < j {
                    f64::NAN
                } else {
                    f64::from(random.normal())
                }
            });
            let v: Vec<f64> = (0..n).map(|_| f64::from(random.normal())).collect();
            let mut found = vec![7.0; n];
            Symv::new(size).multiply(&a, first, &v, &mut found);
            for (i, found) in found.into_iter().enumerate() {
                let at = |j: usize| a[(first + i.max(j), first + i.min(j))];
                let expected: f64 = v.iter().enumerate().map(|(j, v)| at(j) * v).sum();
                assert!(
                    (found - expected).abs() < 1e-12 * n as f64,
                    "{n} {first}: {i}"
                );
            }
        }
    }
}
