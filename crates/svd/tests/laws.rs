//! Truncated SVD obeys the laws of every method, and its own: the error is the optimal one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

use compress_core::{Matrix, Shape, Symmetric, testing::Toy};
use compress_numerics::{
    Random,
    linalg::{Double, product, singular_values},
};
use compress_svd::{Metric, Norm, Svd, spectrum_under, truncate, truncate_under};

const BOTH: [Svd; 2] = [
    Svd { norm: Norm::Plain },
    Svd {
        norm: Norm::Activation,
    },
];

compress_core::laws!(BOTH);

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
        let distance = cut.dense().unwrap().squared_distance(&weight);
        assert!(
            distance < 1e-10 * weight.squared_norm(),
            "{shape}: {distance:e}"
        );
    }
}

#[test]
fn a_weight_of_zeros_stays_one() {
    let cut = truncate(&Matrix::zeros(6, 4), 2).unwrap();
    assert_eq!(cut.dense().unwrap().squared_norm(), 0.0);
    assert_eq!(cut.error, 0.0);
}

/// ‖Lᵀ (W − Ŵ) R‖² by its definition, for G = L Lᵀ and H = R Rᵀ.
fn error_under(left: &Matrix, difference: &Matrix, right: &Matrix) -> f64 {
    let left = Double::from(left);
    let weighted = left.transposed_times(&Double::from(difference)).unwrap();
    let weighted = weighted.times(&Double::from(right)).unwrap();
    weighted.to_matrix().squared_norm()
}

fn gram(root: &Matrix) -> Symmetric {
    let n = root.rows();
    let mut gram = Symmetric::zeros(n);
    for (i, row) in gram.rows_mut().enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            let pairs = (0..root.cols()).map(|k| (i * root.cols() + k, j * root.cols() + k));
            *x = pairs
                .map(|(a, b)| f64::from(root.data()[a]) * f64::from(root.data()[b]))
                .sum();
        }
    }
    gram
}

fn difference(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix::from_fn(a.rows(), a.cols(), |i, j| {
        a.data()[i * a.cols() + j] - b.data()[i * b.cols() + j]
    })
}

#[test]
fn the_error_under_a_metric_is_the_sum_of_the_discarded_eigenvalues() {
    let mut random = Random(5);
    for (rows, cols) in [(12, 20), (20, 12), (9, 9)] {
        let weight = random.matrix(rows, cols);
        let (left, right) = (random.matrix(rows, rows), random.matrix(cols, cols));
        let metric = Metric::kronecker(gram(&left), gram(&right));
        let values = spectrum_under(&metric, &weight).unwrap();
        for rank in 1..weight.shape().full_rank() {
            let cut = truncate_under(&metric, &weight, rank).unwrap();
            let lost = difference(&weight, &cut.dense().unwrap());
            let found = error_under(&left, &lost, &right);
            let expected: f64 = values[rank..].iter().sum();
            assert!(
                (found - expected).abs() < 1e-4 * expected + 1e-8 * values[0],
                "{rows}×{cols} at rank {rank}: {found:e} is not {expected:e}"
            );
        }
    }
}

#[test]
fn the_norm_of_a_matrix_under_a_metric_is_that_of_its_definition() {
    let mut random = Random(9);
    let (m, left) = (random.matrix(12, 20), random.matrix(12, 12));
    let right = random.matrix(20, 20);
    let metric = Metric::kronecker(gram(&left), gram(&right));
    let (found, expected) = (
        metric.squared_norm(&m).unwrap(),
        error_under(&left, &m, &right),
    );
    assert!(
        (found - expected).abs() < 1e-6 * expected,
        "{found} is not {expected}"
    );
    assert_eq!(Metric::PLAIN.squared_norm(&m).unwrap(), m.squared_norm());
}

#[test]
fn no_other_matrix_of_the_rank_is_nearer_under_the_metric() {
    let mut random = Random(6);
    let weight = random.matrix(10, 14);
    let right = random.weight(Shape::new(14, 14));
    let cut = truncate_under(&Metric::activation(gram(&right)), &weight, 4).unwrap();
    let identity = Matrix::from_fn(10, 10, |i, j| f32::from(u8::from(i == j)));
    let best = error_under(
        &identity,
        &difference(&weight, &cut.dense().unwrap()),
        &right,
    );
    for _ in 0..50 {
        let (up, down) = (random.matrix(10, 4), random.matrix(4, 14));
        let step = product(&up, &down).unwrap();
        // Moves within the rank: the factors of the optimum, a little turned.
        let near = cut.dense().unwrap();
        let moved = Matrix::from_fn(10, 14, |i, j| {
            near.data()[i * 14 + j] + 1e-3 * step.data()[i * 14 + j]
        });
        let moved = truncate(&moved, 4).unwrap().dense().unwrap();
        assert!(error_under(&identity, &difference(&weight, &moved), &right) >= best * 0.9999);
    }
}

#[test]
fn a_metric_that_is_even_gives_the_plain_truncation() {
    let mut random = Random(7);
    for (rows, cols) in [(12, 20), (20, 12)] {
        let weight = random.weight(Shape::new(rows, cols));
        let even = Metric::activation(Symmetric::zeros(cols).plus_diagonal(3.0));
        let plain = truncate(&weight, 5).unwrap().dense().unwrap();
        let under = truncate_under(&even, &weight, 5).unwrap();
        let distance = under.dense().unwrap().squared_distance(&plain);
        assert!(
            distance < 1e-9 * weight.squared_norm(),
            "{rows}×{cols}: {distance:e}"
        );
    }
}

#[test]
fn a_singular_metric_is_no_obstacle() {
    let mut random = Random(8);
    for (rows, cols) in [(12, 20), (20, 12)] {
        let weight = random.matrix(rows, cols);
        // Three directions are all that the data ever used.
        let data = random.matrix(cols, 3);
        let cut = truncate_under(&Metric::activation(gram(&data)), &weight, 3).unwrap();
        let lost = difference(&weight, &cut.dense().unwrap());
        let identity = Matrix::from_fn(rows, rows, |i, j| f32::from(u8::from(i == j)));
        let error = error_under(&identity, &lost, &data);
        assert!(
            error < 1e-6 * error_under(&identity, &weight, &data),
            "{error:e}"
        );
        let nothing = truncate_under(&Metric::activation(Symmetric::zeros(cols)), &weight, 3);
        assert!(
            nothing
                .unwrap()
                .dense()
                .unwrap()
                .first_non_finite()
                .is_none()
        );
    }
}

#[test]
fn without_evidence_the_activation_metric_says_what_is_missing() {
    let toy = Toy::new(1);
    let survey = compress_core::Survey::new(&toy, |_| true);
    let method = BOTH[1];
    let steps = compress_core::Method::plan(&method, &survey, "0.5".parse().ok()).unwrap();
    let error = compress_core::Method::compress(&method, &steps[..1], &survey).unwrap_err();
    assert!(error.to_string().contains("activations"), "{error}");
}
