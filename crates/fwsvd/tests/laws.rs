//! Fisher-weighted SVD obeys the laws of every method, and is plain SVD where all inputs matter alike.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

use compress_fwsvd::{Fisher, FwSvd};
use compress_numerics::Random;
use compress_svd::{Metric, truncate, truncate_under};

const BOTH: [FwSvd; 2] = [
    FwSvd {
        fisher: Fisher::Rows,
    },
    FwSvd {
        fisher: Fisher::Kronecker,
    },
];

compress_core::laws!(BOTH);

#[test]
fn constant_fisher_information_gives_the_plain_truncation() {
    let weight = Random(2).matrix(14, 11);
    let plain = truncate(&weight, 4).unwrap().dense().unwrap();
    let constant = Metric::input_fisher(vec![0.3; 11]);
    let weighted = truncate_under(&constant, &weight, 4).unwrap();
    let distance = weighted.dense().unwrap().squared_distance(&plain);
    assert!(distance < 1e-9 * weight.squared_norm(), "{distance:e}");
}

#[test]
fn an_input_without_any_information_is_harmless() {
    let weight = Random(3).matrix(14, 11);
    let mut fisher = vec![1.0; 11];
    fisher[4] = 0.0;
    for fisher in [fisher, vec![0.0; 11]] {
        let cut = truncate_under(&Metric::input_fisher(fisher), &weight, 4).unwrap();
        assert!(cut.dense().unwrap().first_non_finite().is_none());
    }
}
