//! Fisher-weighted SVD obeys the laws of every method, and is plain SVD where all inputs matter alike.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

use compress_core::testing;
use compress_fwsvd::{Fisher, FwSvd};
use compress_svd::{Metric, truncate, truncate_under};

type Outcome = compress_core::Result<()>;

const BOTH: [FwSvd; 2] = [
    FwSvd {
        fisher: Fisher::Rows,
    },
    FwSvd {
        fisher: Fisher::Kronecker,
    },
];

#[test]
fn keep_one_changes_nothing() -> Outcome {
    BOTH.iter().try_for_each(testing::keep_one_changes_nothing)
}

#[test]
fn nothing_grows_and_the_budget_is_met() -> Outcome {
    BOTH.iter()
        .try_for_each(testing::nothing_grows_and_the_budget_is_met)
}

#[test]
fn more_budget_never_hurts() -> Outcome {
    BOTH.iter().try_for_each(testing::more_budget_never_hurts)
}

#[test]
fn edits_are_what_the_step_foretold() -> Outcome {
    BOTH.iter()
        .try_for_each(testing::edits_are_what_the_step_foretold)
}

#[test]
fn nothing_in_a_plan_is_ignored() -> Outcome {
    BOTH.iter()
        .try_for_each(testing::nothing_in_a_plan_is_ignored)
}

#[test]
fn the_bytes_are_the_same_on_any_number_of_threads() -> Outcome {
    BOTH.iter()
        .try_for_each(testing::the_bytes_are_the_same_on_any_number_of_threads)
}

#[test]
fn a_damaged_weight_is_named() -> Outcome {
    BOTH.iter().try_for_each(testing::a_damaged_weight_is_named)
}

#[test]
fn constant_fisher_information_gives_the_plain_truncation() {
    let weight = testing::Random(2).matrix(14, 11);
    let plain = truncate(&weight, 4).unwrap().factor.dense().unwrap();
    let constant = Metric::input_fisher(vec![0.3; 11]);
    let weighted = truncate_under(&constant, &weight, 4).unwrap();
    let distance = weighted.factor.dense().unwrap().squared_distance(&plain);
    assert!(distance < 1e-9 * weight.squared_norm(), "{distance:e}");
}

#[test]
fn an_input_without_any_information_is_harmless() {
    let weight = testing::Random(3).matrix(14, 11);
    let mut fisher = vec![1.0; 11];
    fisher[4] = 0.0;
    for fisher in [fisher, vec![0.0; 11]] {
        let cut = truncate_under(&Metric::input_fisher(fisher), &weight, 4).unwrap();
        assert!(cut.factor.dense().unwrap().first_non_finite().is_none());
    }
}
