//! Pseudo-random numbers that are the same on every machine: for tests, examples, and the choice of windows of a text.

use crate::{Matrix, Shape, Symmetric};

/// A linear congruential generator of 64 bits; its state is the seed. Good enough for test matrices, for drawing
/// windows of a text and for shuffling them; not for cryptography.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number in [0, 1), of 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        // Knuth's multiplier and increment for 64 bits; the upper bits are the random ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number of mean 0 and variance 1, approximately normal: a sum of twelve uniform ones less 6 (Irwin & Hall). It
    /// takes additions only, and so has the same bits everywhere, and never exceeds 6.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// Shuffles in place (Fisher & Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = (f64::from(self.uniform()) * (last + 1) as f64) as usize;
            things.swap(last, other.min(last));
        }
    }

    /// A matrix of independent normal numbers.
    pub fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        Matrix::from_fn(rows, cols, |_, _| self.normal())
    }

    /// Σ x xᵀ of 2·size noise vectors whose channels decay: a positive definite n × n matrix with a falling spectrum.
    pub fn gram(&mut self, size: usize) -> Symmetric {
        let mut gram = Symmetric::zeros(size);
        for _ in 0..2 * size {
            let x: Vec<f64> = (0..size)
                .map(|i| f64::from(self.normal()) / (1.0 + 0.3 * i as f64))
                .collect();
            for (row, &a) in gram.rows_mut().zip(&x) {
                row.iter_mut().zip(&x).for_each(|(sum, b)| *sum += a * b);
            }
        }
        gram
    }

    /// A random weight whose columns decay, so that its spectrum falls as that of a trained weight does.
    pub fn weight(&mut self, shape: Shape) -> Matrix {
        Matrix::from_fn(shape.rows, shape.cols, |_, j| {
            self.normal() / (1.0 + 0.2 * j as f32)
        })
    }
}
