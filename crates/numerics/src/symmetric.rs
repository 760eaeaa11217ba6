//! A symmetric `f64` matrix, stored as its lower triangle: the type of H = Σ x xᵀ and G = Σ g gᵀ.
//!
//! The triangle lies row after row, so that element (i, j ≤ i) is number i (i + 1) / 2 + j. That halves the memory of
//! what is kept for every layer input; decompositions unfold it to n × n in place.

use std::{mem, ops::Range};

/// A symmetric n × n matrix in 4·n·(n + 1) bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    size: usize,
    lower: Vec<f64>, // n (n + 1) / 2
}

impl Symmetric {
    /// All zeros.
    #[must_use]
    pub fn zeros(size: usize) -> Self {
        Self {
            size,
            lower: vec![0.0; start(size)],
        }
    }

    /// From its lower triangle, row after row; none where the length is not n·(n + 1) / 2.
    #[must_use]
    pub fn from_lower(size: usize, lower: Vec<f64>) -> Option<Self> {
        (lower.len() == start(size)).then_some(Self { size, lower })
    }

    /// The lower triangle, row after row.
    #[must_use]
    pub fn lower(&self) -> &[f64] {
        &self.lower
    }

    /// The lower triangle, row after row, without a copy.
    #[must_use]
    pub fn into_lower(self) -> Vec<f64> {
        self.lower
    }

    /// n.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Element (i, j), on either side of the diagonal; panics outside the matrix.
    #[must_use]
    pub fn at(&self, i: usize, j: usize) -> f64 {
        // Above the diagonal the mirrored element.
        self.lower[start(i.max(j)) + i.min(j)]
    }

    /// The first i + 1 elements of row i: up to the diagonal.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.lower[start(i)..start(i + 1)]
    }

    /// All rows up to and including the diagonal element, mutable.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f64]> {
        self.bands_mut(1).map(|(_, row)| row)
    }

    /// Bands of `height` rows each (fewer in the last), mutable: the indices of the rows, and their numbers up to and
    /// including the diagonal, one row after the other. The bands are disjoint, so that threads can fill them together.
    pub fn bands_mut(&mut self, height: usize) -> impl Iterator<Item = (Range<usize>, &mut [f64])> {
        let (size, height) = (self.size, height.max(1));
        let mut rest = self.lower.as_mut_slice();
        (0..size).step_by(height).map(move |first| {
            let rows = first..size.min(first + height);
            let numbers = start(rows.end) - start(rows.start);
            let (band, after) = mem::take(&mut rest).split_at_mut(numbers);
            rest = after;
            (rows, band)
        })
    }

    /// The diagonal.
    pub fn diagonal(&self) -> impl Iterator<Item = f64> {
        (0..self.size).map(|i| self.at(i, i))
    }

    /// The diagonal, mutable.
    pub fn diagonal_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        self.rows_mut().filter_map(<[f64]>::last_mut)
    }

    /// The sum of the diagonal; for Σ x xᵀ the sum of all squared inputs.
    #[must_use]
    pub fn trace(&self) -> f64 {
        self.diagonal().sum()
    }

    /// A + number · I: damping.
    #[must_use]
    pub fn plus_diagonal(mut self, number: f64) -> Self {
        self.diagonal_mut().for_each(|x| *x += number);
        self
    }

    /// Whether all numbers are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.lower.iter().all(|x| x.is_finite())
    }
}

/// The offset of row i of a lower triangle, which is also the length of a triangle of i rows.
const fn start(i: usize) -> usize {
    i * (i + 1) / 2
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are only moved")]
mod tests {
    use super::*;

    #[test]
    fn the_lower_triangle_is_all_there_is_to_know() {
        let lower = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let whole = Symmetric::from_lower(3, lower.clone()).unwrap();
        assert_eq!((whole.at(1, 2), whole.at(2, 1)), (5.0, 5.0));
        assert_eq!(whole.row(1), [2.0, 3.0]);
        assert!(whole.diagonal().eq([1.0, 3.0, 6.0]));
        assert_eq!(whole.trace(), 10.0);
        assert_eq!(whole.lower(), lower);
        assert!(Symmetric::from_lower(3, lower[..5].to_vec()).is_none());
    }

    #[test]
    fn bands_are_all_rows_up_to_their_diagonal() {
        let mut whole = Symmetric::zeros(5);
        let bands = whole.bands_mut(2);
        let found: Vec<_> = bands.map(|(rows, band)| (rows, band.len())).collect();
        assert_eq!(found, [(0..2, 3), (2..4, 7), (4..5, 5)]);
        let lengths = whole.rows_mut().map(|row| row.len());
        assert!(lengths.eq([1, 2, 3, 4, 5]));
    }

    #[test]
    fn what_is_added_to_the_diagonal_is_added_nowhere_else() {
        let moved = Symmetric::zeros(3).plus_diagonal(2.0);
        assert_eq!(moved.into_lower(), [2.0, 0.0, 2.0, 0.0, 0.0, 2.0]);
        assert_eq!(Symmetric::zeros(0).plus_diagonal(2.0).trace(), 0.0);
    }
}
