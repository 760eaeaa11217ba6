//! H as a text would give it, for timing on large weights.

use compress_numerics::Random;

use crate::{Matrix, Symmetric};

/// H, n × n, of inputs with some strong directions, each weaker than the one before, on a diagonal that falls.
#[must_use]
pub fn gram(n: usize, directions: usize) -> Symmetric {
    let mut random = Random(2);
    let directions: Vec<Matrix> = (0..directions).map(|_| random.matrix(1, n)).collect();
    let mut gram = Symmetric::zeros(n);
    for (i, row) in gram.rows_mut().enumerate() {
        for (k, x) in directions.iter().enumerate() {
            let a = f64::from(x.data()[i]) * 4.0 / (1.0 + k as f64);
            let pairs = row.iter_mut().zip(x.data());
            pairs.for_each(|(sum, b)| *sum += a * f64::from(*b));
        }
        row[i] += 1.0 / (1.0 + i as f64 / 100.0);
    }
    gram
}
