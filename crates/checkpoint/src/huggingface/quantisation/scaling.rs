//! The settings of weights that have a byte for each number.

use serde_json::Value;

/// What the byte of a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A float with 4 bits of exponent and 3 of mantissa, without infinities.
    E4m3,
    /// An integer in two's complement.
    Int8,
}

impl Code {
    /// The dtype of safetensors.
    #[must_use]
    pub const fn dtype(self) -> &'static str {
        match self {
            Self::E4m3 => "F8_E4M3",
            Self::Int8 => "I8",
        }
    }
}

/// The settings of numbers of one byte with scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// What the bytes are.
    pub code: Code,
    /// The numbers that share a scale.
    pub extent: Extent,
    /// Whether there are no zero points.
    pub symmetric: bool,
    /// Whether programs that serve the model round the inputs of the layer.
    pub inputs_rounded: bool,
}

/// The numbers of a matrix that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of them.
    Tensor,
    /// A row.
    Row,
    /// So many neighbours in a row.
    Group(usize),
    /// A block of so many rows and columns; the last ones may be cut off by the edge.
    Block(usize, usize),
}

/// The rows and columns of a block, from a list of two sizes.
pub fn block(sizes: &Value) -> Option<Extent> {
    // No weight has more rows or columns; products of such sizes do not overflow.
    let size = |value: &Value| {
        let size = value.as_u64().filter(|size| (1..=1 << 24).contains(size))?;
        usize::try_from(size).ok()
    };
    match &sizes.as_array()?[..] {
        [rows, cols] => Some(Extent::Block(size(rows)?, size(cols)?)),
        _ => None,
    }
}
