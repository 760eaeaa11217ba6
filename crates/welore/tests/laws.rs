//! `WeLore` obeys the laws of every method, whatever its threshold runs over.

use compress_welore::{Count, Score, Welore};

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

compress_core::laws!(EACH => keep_one_changes_nothing, nothing_grows_and_the_budget_is_met, edits_are_what_the_step_predicted, steps_may_come_one_by_one, nothing_in_a_plan_is_ignored, the_bytes_are_the_same_on_any_number_of_threads, a_damaged_weight_is_named);
