//! The part of a matrix that lies in someone else's memory, row after row.

use std::ops::Range;

use faer::MatRef;

use super::Real;

/// Element (i, j) is number i · stride + j − shift.
///
/// With a stride below the width, it is a matrix of which only what is near the diagonal is kept: row after
/// row, and only that may be read.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    numbers: &'a [T],
    stride: usize,
    shift: usize,
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

    /// Of each row the `width` numbers right of the diagonal.
    #[must_use]
    pub const fn right_of_diagonal(numbers: &'a [T], width: usize) -> Self {
        Self {
            numbers,
            stride: width.saturating_sub(1),
            shift: 1,
        }
    }

    /// One element.
    #[must_use]
    pub fn at(self, i: usize, j: usize) -> T {
        self.numbers[i * self.stride + j - self.shift]
    }

    /// A part of it; empty where there is nothing in it.
    pub(super) fn block(self, rows: Range<usize>, cols: Range<usize>) -> MatRef<'a, T> {
        let (height, width) = (rows.len(), cols.len());
        if height * width == 0 {
            return MatRef::from_row_major_slice(&[], height, width);
        }
        let first = rows.start * self.stride + cols.start - self.shift;
        let numbers = &self.numbers[first..][..(height - 1) * self.stride + width];
        MatRef::from_row_major_slice_with_stride(numbers, height, width, self.stride)
    }
}
