//! Files of a Hugging Face model other than the weights: `config.json` and the quantization
//! settings in it.

pub mod architecture;
pub mod config;
pub mod quantisation;
pub mod settings;
