//! A symmetric matrix unfolded to n × n, row after row, for decompositions in place.
//!
//! A decomposition overwrites the lower triangle and the diagonal; the upper triangle keeps the matrix, so that it can
//! be given back where the decomposition fails, and read beside the factor where it succeeds.

use rayon::prelude::*;

use crate::Symmetric;

/// Rows that are mirrored together. Columns are read 16 numbers wide: two cache lines, so that none is read for one
/// number.
const BAND: usize = 16;

/// n × n numbers, row after row, both triangles filled.
#[derive(Clone, Debug)]
pub(super) struct Square {
    pub size: usize,
    pub numbers: Vec<f64>,
}

impl Square {
    /// In the memory of the triangle, which grows to n × n: no other copy is made.
    pub fn unfolded(symmetric: Symmetric) -> Self {
        let size = symmetric.size();
        let mut numbers = symmetric.into_lower();
        numbers.resize(size * size, 0.0);
        // From the last row on: a row moves to a higher place, over rows that have moved already.
        for i in (1..size).rev() {
            numbers.copy_within(start(i)..start(i + 1), i * size);
        }
        let mut square = Self { size, numbers };
        square.mirror();
        square
    }

    /// Copies the lower triangle to the upper one, a band of rows at a time.
    fn mirror(&mut self) {
        let n = self.size;
        for first in (0..n).step_by(BAND) {
            let end = n.min(first + BAND);
            let (above, below) = self.numbers.split_at_mut(end * n);
            let band = &mut above[first * n..];
            for i in 0..end - first {
                for j in 0..i {
                    band[j * n + first + i] = band[i * n + first + j];
                }
            }
            // The rest of each row of the band is a column of the rows below it.
            let rows = band.par_chunks_mut(n).enumerate();
            rows.for_each(|(i, row)| {
                let column = below.iter().skip(first + i).step_by(n);
                row[end..].iter_mut().zip(column).for_each(|(x, y)| *x = *y);
            });
        }
    }

    /// Reverses the order of rows and of columns, which swaps the triangles: in a square the numbers are simply
    /// reversed.
    pub fn turn(&mut self) {
        self.numbers.reverse();
    }

    /// The symmetric matrix of the strictly lower triangle and the given diagonal, in the same memory.
    pub fn folded(mut self, diagonal: &[f64]) -> Symmetric {
        let n = self.size;
        // From the first row on: rows move to lower places.
        for (i, x) in diagonal.iter().enumerate() {
            self.numbers.copy_within(i * n..i * n + i, start(i));
            self.numbers[start(i) + i] = *x;
        }
        self.numbers.truncate(start(n));
        Symmetric::from_lower(n, self.numbers).unwrap_or_else(|| Symmetric::zeros(n))
    }

    /// The diagonal.
    pub fn diagonal(&self) -> Vec<f64> {
        let every = self.numbers.iter().step_by(self.size + 1);
        every.copied().collect()
    }
}

const fn start(i: usize) -> usize {
    i * (i + 1) / 2
}
