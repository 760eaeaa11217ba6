//! The compressed form of one weight, and the form without its numbers.

use serde::{Deserialize, Serialize};

use crate::{Format, Matrix, Result, Shape, linalg};

/// How a weight is put together. Every variant denotes one out × in matrix.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// W itself.
    Whole(Matrix),
    /// W ≈ up · down.
    LowRank {
        /// out × r
        up: Matrix,
        /// r × in
        down: Matrix,
    },
}

impl Factor {
    /// Output features × input features of the weight that it stands for.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Whole(weight) => weight.shape(),
            Self::LowRank { up, down } => Shape::new(up.rows(), down.cols()),
        }
    }

    /// The form without the numbers.
    #[must_use]
    pub fn form(&self) -> Form {
        match self {
            Self::Whole(_) => Form::Whole,
            Self::LowRank { up, .. } => Form::LowRank { rank: up.cols() },
        }
    }

    /// Multiplied out.
    pub fn dense(&self) -> Result<Matrix> {
        match self {
            Self::Whole(weight) => Ok(weight.clone()),
            Self::LowRank { up, down } => linalg::product(up, down),
        }
    }

    /// W · x for the columns of x, in × t, without multiplying the factors out.
    pub fn apply(&self, x: &Matrix) -> Result<Matrix> {
        match self {
            Self::Whole(weight) => linalg::product(weight, x),
            Self::LowRank { up, down } => linalg::product(up, &linalg::product(down, x)?),
        }
    }

    /// Each matrix with the suffix that its tensor has after the module's name.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&'static str, &Matrix)> {
        match self {
            Self::Whole(weight) => vec![("weight", weight)],
            Self::LowRank { up, down } => vec![("down.weight", down), ("up.weight", up)],
        }
    }
}

/// How a weight is put together, without the numbers: what a plan can say of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One matrix.
    Whole,
    /// Two factors.
    LowRank {
        /// Columns of `up`, rows of `down`.
        rank: usize,
    },
}

impl Form {
    /// Shape and tensor suffix of every matrix that a weight of this shape then consists of.
    #[must_use]
    pub fn tensors(self, weight: Shape) -> Vec<(&'static str, Shape)> {
        match self {
            Self::Whole => vec![("weight", weight)],
            Self::LowRank { rank } => vec![
                ("down.weight", Shape::new(rank, weight.cols)),
                ("up.weight", Shape::new(weight.rows, rank)),
            ],
        }
    }

    /// How many numbers the weight then takes.
    #[must_use]
    pub fn parameters(self, weight: Shape) -> usize {
        self.tensors(weight)
            .iter()
            .map(|(_, shape)| shape.size())
            .sum()
    }

    /// How many bytes the weight then takes in a number format.
    #[must_use]
    pub fn bytes(self, weight: Shape, format: Format) -> usize {
        self.parameters(weight) * format.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Factor {
        Factor::LowRank {
            up: Matrix::from_fn(5, 2, |i, j| (i + j) as f32 - 1.5),
            down: Matrix::from_fn(2, 4, |i, j| 0.5 * i as f32 - j as f32),
        }
    }

    #[test]
    fn a_low_rank_pair_applies_as_the_matrix_it_denotes() {
        let x = Matrix::from_fn(4, 3, |i, j| (i * 3 + j) as f32);
        let direct = example().apply(&x).unwrap();
        let dense = Factor::Whole(example().dense().unwrap()).apply(&x).unwrap();
        assert!(direct.squared_distance(&dense) < 1e-8 * dense.squared_norm());
    }

    #[test]
    fn a_form_foretells_the_tensors_of_its_factor() {
        let factor = example();
        let told: Vec<_> = factor.form().tensors(factor.shape());
        let found: Vec<_> = factor
            .tensors()
            .iter()
            .map(|(name, m)| (*name, m.shape()))
            .collect();
        assert_eq!(told, found);
        assert_eq!(
            factor.form().bytes(factor.shape(), Format::F16),
            2 * (5 * 2 + 2 * 4)
        );
    }
}
