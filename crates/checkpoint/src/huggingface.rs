//! What Hugging Face's files say: config and how weights are rounded.

pub mod architecture;
pub mod config;
pub mod quantisation;
pub mod settings;
