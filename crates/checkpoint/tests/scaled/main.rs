//! Weights of one byte with scales, FP8 and int8, are the floats that they stand for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
#[path = "../common/mod.rs"]
mod common;
mod made;
mod read;
mod refused;
