//! One file per verb.

pub mod cache;
pub mod compare;
pub mod completions;
pub mod evaluate;
pub mod inspect;
pub mod methods;
pub mod plan;
pub mod run;
pub mod tune;
