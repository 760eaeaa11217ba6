//! `WeLore` obeys the laws of every method, whatever its threshold runs over.

use compress_core::testing;
use compress_welore::{Count, Score, Welore};

type Outcome = compress_core::Result<()>;

const EACH: [Welore; 4] = [
    Welore {
        score: Score::MinMax,
        count: Count::Stored,
    },
    Welore {
        score: Score::Energy,
        count: Count::Ranks,
    },
    Welore {
        score: Score::Energy,
        count: Count::Envelope,
    },
    Welore {
        score: Score::Loss,
        count: Count::Envelope,
    },
];

#[test]
fn keep_one_changes_nothing() -> Outcome {
    EACH.iter().try_for_each(testing::keep_one_changes_nothing)
}

#[test]
fn nothing_grows_and_the_budget_is_met() -> Outcome {
    EACH.iter()
        .try_for_each(testing::nothing_grows_and_the_budget_is_met)
}

#[test]
fn edits_are_what_the_step_foretold() -> Outcome {
    EACH.iter()
        .try_for_each(testing::edits_are_what_the_step_foretold)
}

#[test]
fn nothing_in_a_plan_is_ignored() -> Outcome {
    EACH.iter()
        .try_for_each(testing::nothing_in_a_plan_is_ignored)
}

#[test]
fn the_bytes_are_the_same_on_any_number_of_threads() -> Outcome {
    EACH.iter()
        .try_for_each(testing::the_bytes_are_the_same_on_any_number_of_threads)
}

#[test]
fn a_damaged_weight_is_named() -> Outcome {
    EACH.iter().try_for_each(testing::a_damaged_weight_is_named)
}
