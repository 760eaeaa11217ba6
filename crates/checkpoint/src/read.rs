//! Reading models: a directory or a GGUF file, tensor by tensor.

pub mod adapter;
pub mod checkpoint;
pub mod directory;
pub mod gguf;
pub mod reading;
pub mod tensor;
pub mod unknown;
pub mod weight_file;
pub mod weights;
