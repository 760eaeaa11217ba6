//! A symmetric matrix of `f64`: what sums of outer products over data give.

/// A symmetric n × n matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    size: usize,
    data: Vec<f64>, // all n², row after row
}

impl Symmetric {
    /// All zeros.
    #[must_use]
    pub fn zeros(size: usize) -> Self {
        Self {
            size,
            data: vec![0.0; size * size],
        }
    }

    /// From its lower triangle, row after row; none when the length is not n·(n + 1) / 2.
    #[must_use]
    pub fn from_lower(size: usize, lower: &[f64]) -> Option<Self> {
        if lower.len() != size * (size + 1) / 2 {
            return None;
        }
        let mut whole = Self::zeros(size);
        let mut rest = lower;
        for i in 0..size {
            let (row, after) = rest.split_at(i + 1);
            whole.row_mut(i)[..=i].copy_from_slice(row);
            rest = after;
        }
        whole.mirror();
        Some(whole)
    }

    /// The lower triangle, row after row.
    #[must_use]
    pub fn lower(&self) -> Vec<f64> {
        (0..self.size)
            .flat_map(|i| &self.row(i)[..=i])
            .copied()
            .collect()
    }

    /// n.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// All n² numbers, row after row.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// One row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.size..][..self.size]
    }

    /// One row, to be changed. Whoever writes only up to the diagonal calls [`mirror`](Self::mirror).
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.data[i * self.size..][..self.size]
    }

    /// All n² numbers, to be changed; see [`mirror`](Self::mirror).
    pub fn data_mut(&mut self) -> &mut [f64] {
        &mut self.data
    }

    /// All rows, to be changed.
    pub fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, f64> {
        self.data.chunks_exact_mut(self.size.max(1))
    }

    /// Copies what is below the diagonal to above it.
    pub fn mirror(&mut self) {
        let n = self.size;
        for i in 0..n {
            for j in 0..i {
                self.data[j * n + i] = self.data[i * n + j];
            }
        }
    }

    /// The diagonal.
    pub fn diagonal(&self) -> impl Iterator<Item = f64> {
        self.data.iter().step_by(self.size + 1).copied()
    }

    /// The sum of the diagonal.
    #[must_use]
    pub fn trace(&self) -> f64 {
        self.diagonal().sum()
    }

    /// Adds a number to every element of the diagonal.
    #[must_use]
    pub fn plus_diagonal(mut self, number: f64) -> Self {
        let stride = self.size + 1;
        self.data
            .iter_mut()
            .step_by(stride)
            .for_each(|x| *x += number);
        self
    }

    /// Whether all numbers are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.data.iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_triangle_is_all_there_is_to_know() {
        let lower = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let whole = Symmetric::from_lower(3, &lower).unwrap();
        assert_eq!(whole.data(), [1.0, 2.0, 4.0, 2.0, 3.0, 5.0, 4.0, 5.0, 6.0]);
        assert_eq!(whole.lower(), lower);
        assert!((whole.trace() - 10.0).abs() < 1e-12);
        assert!(Symmetric::from_lower(3, &lower[..5]).is_none());
    }
}
