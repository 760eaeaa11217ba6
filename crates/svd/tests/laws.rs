//! Truncated SVD obeys the laws of every method, and its own: the error is the optimal one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

use compress_core::{
    Matrix, Shape,
    linalg::{product, singular_values},
    testing::{self, Random},
};
use compress_svd::{Svd, truncate};

type Outcome = compress_core::Result<()>;

#[test]
fn keep_one_changes_nothing() -> Outcome {
    testing::keep_one_changes_nothing(&Svd)
}

#[test]
fn nothing_grows_and_the_budget_is_met() -> Outcome {
    testing::nothing_grows_and_the_budget_is_met(&Svd)
}

#[test]
fn more_budget_never_hurts() -> Outcome {
    testing::more_budget_never_hurts(&Svd)
}

#[test]
fn edits_are_what_the_step_foretold() -> Outcome {
    testing::edits_are_what_the_step_foretold(&Svd)
}

#[test]
fn a_damaged_weight_is_named() -> Outcome {
    testing::a_damaged_weight_is_named(&Svd)
}

/// Matrices whose singular values fall slowly, fast, to nothing, or are all alike.
fn spectra() -> Vec<Matrix> {
    let mut random = Random(11);
    let mut decaying = |rows, cols, rate: f32| {
        let (left, right) = (random.matrix(rows, cols), random.matrix(cols, cols));
        let scaled = Matrix::from_fn(rows, cols, |i, j| {
            left.data()[i * cols + j] * rate.powi(j as i32)
        });
        product(&scaled, &right).unwrap()
    };
    vec![
        decaying(40, 24, 1.0),
        decaying(24, 40, 0.9),
        decaying(33, 33, 0.7),
        decaying(60, 20, 0.4),
        Matrix::from_fn(16, 16, |i, j| f32::from(u8::from(i == j))),
    ]
}

#[test]
fn the_error_is_within_a_thousandth_of_the_optimal_one() {
    for weight in spectra() {
        let sigma = singular_values(&weight).unwrap();
        for rank in 1..weight.shape().full_rank() {
            let optimal: f64 = sigma[rank..].iter().map(|s| s * s).sum();
            let found = truncate(&weight, rank)
                .unwrap()
                .factor
                .dense()
                .unwrap()
                .squared_distance(&weight);
            // What f32 factors cannot resolve at all is not held against them.
            let rounding = 1e-12 * weight.squared_norm();
            assert!(
                found <= 1.001 * 1.001 * optimal + rounding,
                "{} at rank {rank}: {found:e} of {optimal:e}",
                weight.shape()
            );
        }
    }
}

#[test]
fn full_rank_gives_the_weight_back() {
    for shape in [
        Shape::new(12, 20),
        Shape::new(20, 12),
        Shape::new(1, 7),
        Shape::new(7, 1),
    ] {
        let weight = Random(3).weight(shape);
        let cut = truncate(&weight, shape.full_rank()).unwrap();
        let distance = cut.factor.dense().unwrap().squared_distance(&weight);
        assert!(
            distance < 1e-10 * weight.squared_norm(),
            "{shape}: {distance:e}"
        );
    }
}

#[test]
fn a_weight_of_zeros_stays_one() {
    let cut = truncate(&Matrix::zeros(6, 4), 2).unwrap();
    assert_eq!(cut.factor.dense().unwrap().squared_norm(), 0.0);
    assert_eq!(cut.error, 0.0);
}
