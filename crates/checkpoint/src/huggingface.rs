//! Hugging Face's files: `config.json`, and in it how weights are quantised.

pub mod architecture;
pub mod config;
pub mod quantisation;
pub mod settings;
