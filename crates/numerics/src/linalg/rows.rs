//! Borrowed row-major matrices, whole or banded, and blocks of them as right factors of products.
//!
//! GPTQ reads its feedback (the rows of U over their diagonal) in this way: all of it in `f32`, and in `f64` a band
//! right of the diagonal, along which rounding moves on.

use std::ops::Range;

use faer::MatRef;

use super::Real;

/// A borrowed matrix: element (i, j) is number i · stride + j − shift.
///
/// With a stride below the width it is a band matrix, of which only what is near the diagonal is stored, and only
/// that may be read.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    numbers: &'a [T],
    stride: usize,
    shift: usize,
}

/// A view of a block, in whatever layout.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, T>(pub(super) MatRef<'a, T>);

/// A block copied to column-major order: a product by it is up to twice as fast as by rows that lie far apart.
#[derive(Clone, Debug)]
pub struct Columns<T> {
    numbers: Vec<T>,
    rows: usize,
    cols: usize,
}

/// Rows and columns that are transposed together: a cache line of `f32` each way.
const TILE: usize = 16;

impl<T: Real> Columns<T> {
    /// A view of all of it.
    #[must_use]
    pub fn block(&self) -> Block<'_, T> {
        Block(MatRef::from_column_major_slice(
            &self.numbers,
            self.rows,
            self.cols,
        ))
    }
}

impl<T> Block<'_, T> {
    /// The transposed view; no number is moved.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self(self.0.transpose())
    }
}

impl<'a, T: Real> Rows<'a, T> {
    /// Rows of a full matrix that begin `stride` numbers apart.
    #[must_use]
    pub const fn full(numbers: &'a [T], stride: usize) -> Self {
        Self {
            numbers,
            stride,
            shift: 0,
        }
    }

    /// A band matrix: of each row the `width` numbers right of the diagonal, without the diagonal itself. Rows lie
    /// `width` numbers apart, so that a step down and right is one of `stride` + 1 = `width`.
    #[must_use]
    pub const fn right_of_diagonal(numbers: &'a [T], width: usize) -> Self {
        Self {
            numbers,
            stride: width.saturating_sub(1),
            shift: 1,
        }
    }

    /// The trailing matrix without the first `first` rows and columns.
    #[must_use]
    pub fn after(self, first: usize) -> Self {
        let skipped = first * (self.stride + 1);
        let numbers = self.numbers.get(skipped..).unwrap_or_default();
        Self { numbers, ..self }
    }

    /// One element; the caller keeps within the stored band.
    #[must_use]
    pub fn at(self, i: usize, j: usize) -> T {
        self.numbers[i * self.stride + j - self.shift]
    }

    /// A view of a block; panics where it reaches beyond the stored numbers.
    #[must_use]
    pub fn block(self, rows: Range<usize>, cols: Range<usize>) -> Block<'a, T> {
        let (height, width) = (rows.len(), cols.len());
        // An empty block may begin beyond the stored numbers.
        if height * width == 0 {
            return Block(MatRef::from_row_major_slice(&[], height, width));
        }
        let first = rows.start * self.stride + cols.start - self.shift;
        let numbers = &self.numbers[first..][..(height - 1) * self.stride + width];
        let part = MatRef::from_row_major_slice_with_stride(numbers, height, width, self.stride);
        Block(part)
    }

    /// A column-major copy of a block.
    #[must_use]
    pub fn columns(self, rows: Range<usize>, cols: Range<usize>) -> Columns<T> {
        let (height, width) = (rows.len(), cols.len());
        let mut numbers = vec![T::from_f32(0.0); height * width];
        // In tiles: without them either the reads or the writes would touch another cache line for each number.
        for top in (0..height).step_by(TILE) {
            let bottom = height.min(top + TILE);
            for left in (0..width).step_by(TILE) {
                let right = width.min(left + TILE);
                for i in top..bottom {
                    let first = (rows.start + i) * self.stride + cols.start - self.shift;
                    let row = &self.numbers[first + left..first + right];
                    let column = numbers[left * height + i..].iter_mut().step_by(height);
                    column.zip(row).for_each(|(x, y)| *x = *y);
                }
            }
        }
        Columns {
            numbers,
            rows: height,
            cols: width,
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are only moved")]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_numbers() {
        let numbers: Vec<f32> = (0..40 * 50).map(|i| i as f32).collect();
        let whole = Rows::full(&numbers, 50);
        for (rows, cols) in [(0..40, 0..50), (3..36, 7..8), (39..40, 1..48)] {
            let copy = whole.columns(rows.clone(), cols.clone());
            assert_eq!(copy.block().0, whole.block(rows, cols).0);
        }
    }

    #[test]
    fn what_is_right_of_the_diagonal_is_found_there() {
        // 5 × 5, three numbers right of each diagonal element: element (i, j) is 10 i + j.
        let of_row = |i: usize| (1..=3).map(move |k| (10 * i + i + k) as f64);
        let numbers: Vec<f64> = (0..5).flat_map(of_row).collect();
        let near = Rows::right_of_diagonal(&numbers, 3);
        assert_eq!((near.at(0, 1), near.at(1, 4)), (1.0, 14.0));
        let block = near.block(1..3, 3..5).0;
        assert_eq!([block[(0, 0)], block[(1, 1)]], [13.0, 24.0]);
        let rest = near.after(2);
        assert_eq!(rest.at(0, 1), 23.0);
        assert_eq!(rest.block(0..1, 1..3).transposed().0[(1, 0)], 24.0);
        assert_eq!(near.block(2..2, 3..5).0.shape(), (0, 2));
        assert_eq!(near.columns(2..2, 3..5).block().0.shape(), (0, 2));
        assert_eq!(near.columns(1..3, 3..5).block().0, block);
    }
}
