//! Shape, number format and byte range of a tensor, as a header gives them.

use std::{fmt, ops::Range};

use compress_core::Format;

use crate::read::scaled::Scaled;

/// The float formats that are decoded, as text for error messages.
pub const FLOATS: &str = "F32, F16 or BF16";

/// The number format of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain floating-point numbers.
    Float(Format),
    /// Quantized blocks of a GGUF file, decoded to `f32`.
    Block(compress_gguf::BlockType),
    /// Numbers of one byte with scales, which are part of the tensor; decoded to `f32`.
    Scaled(Box<Scaled>),
    /// Another dtype, by its safetensors name: copied, and read only as codes, zero points or
    /// shapes.
    Opaque(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(format) => f.pad(&format.to_string()),
            Self::Block(kind) => f.pad(&kind.to_string()),
            Self::Scaled(scaled) => f.pad(scaled.code.dtype()),
            Self::Opaque(name) => f.pad(name),
        }
    }
}

/// The description of a tensor; its bytes stay in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Sizes, outermost dimension first: out × in for a weight.
    pub shape: Vec<usize>,
    /// The number format.
    pub kind: Kind,
    /// Index into the checkpoint's files.
    pub(crate) file: usize,
    /// Its bytes, counted from the start of that file.
    pub(crate) range: Range<usize>,
}

impl Tensor {
    /// The number of elements, 1 for a scalar.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// The size on disk in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.range.len()
    }
}
