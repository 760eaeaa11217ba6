//! Decoding: a text is continued token by token, by keys and values that are kept.

pub mod cache;
pub mod generate;
pub mod token;
