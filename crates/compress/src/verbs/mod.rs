//! One file per verb: each has a `run`, which gets its arguments, prints its results, and says how it came out.

pub mod cache;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod evaluate;
pub mod generate;
pub mod inspect;
pub mod methods;
pub mod plan;
pub mod report;
pub mod run;
pub mod think;
pub mod tune;
