//! Values of the metadata: scalars, strings and arrays, each preceded by the number of its type.
//!
//! ```text
//! string    u64 length in bytes, UTF-8 bytes
//! array     u32 type of the elements, u64 count, the elements without their types
//! ```

use crate::Error;
use crate::reader::Reader;

/// Largest depth of arrays within arrays. Real files have depth 1; the limit bounds the recursion,
/// and with it the stack that a malformed file can use.
const DEEPEST: usize = 4;

/// A metadata value. Integers of all widths become 64 bits: readers check the range they need.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8 to 64 bits.
    Unsigned(u64),
    /// A signed integer of 8 to 64 bits.
    Signed(i64),
    /// A number in single precision.
    F32(f32),
    /// A number in double precision.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Text(String),
    /// A list of values of one type, which may be arrays themselves.
    Array(Vec<Value>),
}

impl Value {
    /// The value as a non-negative integer; none for other types and negative numbers.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The value as a finite number; none for other types, NaN and infinity. An `f32` becomes the
    /// shortest decimal that reads back as it, so that ε is 1e-5 and not 9.9999997e-6, as in the
    /// checkpoint's config.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        let number = match self {
            Self::F32(number) => number.to_string().parse().ok()?,
            Self::F64(number) => *number,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value as a boolean; none for other types. Integers 0 and 1 are not taken for booleans.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The value as a string; none for other types.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a list; none for other types.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Reads a type and the value that follows it.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, Error> {
        let id = reader.u32("a metadata type")?;
        Self::of_type(id, reader, 0)
    }

    /// Reads a value of a given type; `depth` counts the arrays around it.
    fn of_type(id: u32, reader: &mut Reader, depth: usize) -> Result<Self, Error> {
        const WHAT: &str = "a metadata value";
        Ok(match id {
            // The numbers are `gguf_metadata_value_type` of the specification.
            0 => Self::Unsigned(u8::from_le_bytes(reader.array(WHAT)?).into()),
            1 => Self::Signed(i8::from_le_bytes(reader.array(WHAT)?).into()),
            2 => Self::Unsigned(u16::from_le_bytes(reader.array(WHAT)?).into()),
            3 => Self::Signed(i16::from_le_bytes(reader.array(WHAT)?).into()),
            4 => Self::Unsigned(reader.u32(WHAT)?.into()),
            5 => Self::Signed(i32::from_le_bytes(reader.array(WHAT)?).into()),
            6 => Self::F32(f32::from_le_bytes(reader.array(WHAT)?)),
            7 => Self::Bool(truth(reader)?),
            8 => Self::Text(reader.text("a metadata string")?.to_owned()),
            9 => Self::Array(Self::array(reader, depth + 1)?),
            10 => Self::Unsigned(reader.u64(WHAT)?),
            11 => Self::Signed(i64::from_le_bytes(reader.array(WHAT)?)),
            12 => Self::F64(f64::from_le_bytes(reader.array(WHAT)?)),
            _ => {
                return Err(Error::ValueType {
                    id,
                    at: reader.at(),
                });
            }
        })
    }

    /// Reads an array: the type of its elements, their count, then the elements.
    fn array(reader: &mut Reader, depth: usize) -> Result<Vec<Self>, Error> {
        if depth > DEEPEST {
            return Err(Error::Nested {
                limit: DEEPEST,
                at: reader.at(),
            });
        }
        let id = reader.u32("an array's type")?;
        let Some(least) = least_size(id) else {
            return Err(Error::ValueType {
                id,
                at: reader.at(),
            });
        };
        // A count that cannot fit in the rest of the file is refused before memory is allocated for
        // it.
        let count = reader.count("an array", least)?;
        (0..count)
            .map(|_| Self::of_type(id, reader, depth))
            .collect()
    }
}

/// A boolean of one byte. Other values than 0 and 1 are refused: they show that the reader is at a
/// wrong place.
fn truth(reader: &mut Reader) -> Result<bool, Error> {
    let at = reader.at();
    match reader.array("a metadata value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [byte] => Err(Error::Bool { at, byte }),
    }
}

/// The fewest bytes that a value of this type takes, by which counts are checked: for a string its
/// length field, for an array its type and count.
fn least_size(id: u32) -> Option<usize> {
    match id {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        8 | 10..=12 => Some(8),
        9 => Some(12),
        _ => None,
    }
}
