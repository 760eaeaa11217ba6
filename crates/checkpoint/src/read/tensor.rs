//! One tensor of a checkpoint: shape, number type, place.

use std::{fmt, ops::Range};

use compress_core::Format;

/// The plain formats, for messages.
pub const FLOATS: &str = "F32, F16 or BF16";

/// How the numbers of a tensor are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain floating-point numbers.
    Float(Format),
    /// Blocks of a GGUF file.
    Block(compress_gguf::BlockType),
    /// Something that is copied but not computed with, by its name.
    Opaque(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(format) => f.pad(&format.to_string()),
            Self::Block(kind) => f.pad(&kind.to_string()),
            Self::Opaque(name) => f.pad(name),
        }
    }
}

/// A tensor and where its bytes lie.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// How its numbers are kept.
    pub kind: Kind,
    /// Which of the checkpoint's files.
    pub(crate) file: usize,
    /// Which bytes of that file.
    pub(crate) range: Range<usize>,
}

impl Tensor {
    /// How many numbers it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many bytes it takes on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.range.len()
    }
}
