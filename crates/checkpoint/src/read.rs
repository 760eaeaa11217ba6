//! Reading models: a Hugging Face directory or a GGUF file, one tensor at a time.

pub mod adapter;
pub mod chat;
pub mod checkpoint;
pub mod directory;
mod e4m3;
pub mod gather;
pub mod gguf;
pub mod head;
pub mod mistaken;
pub mod policy;
pub mod reading;
pub mod scaled;
pub mod split;
pub mod tensor;
pub mod tokenizer;
pub mod unknown;
pub mod weight_file;
pub mod weights;
