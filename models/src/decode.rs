//! Decoding: a text is continued token by token, with the keys and values of earlier tokens kept.
//!
//! Needs a prompt of at least one token. Each new token costs one read of all weights, and of the cache.

pub mod cache;
pub mod generate;
pub mod sample;
pub mod token;
