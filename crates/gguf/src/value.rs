//! One value of the metadata.

use crate::Error;
use crate::reader::Reader;

/// Deeper arrays than any real file has; the limit keeps recursion shallow.
const DEEPEST: usize = 4;

/// A metadata value; the width of an integer is not kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A number in single precision.
    F32(f32),
    /// A number in double precision.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Text(String),
    /// A list of values of one type.
    Array(Vec<Value>),
}

impl Value {
    /// The value as a whole number, where it is one and not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The value as a finite floating-point number, where it is one: in single precision the one
    /// with the fewest digits, 1e-5 and not 9.9999997e-6.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        let number = match self {
            Self::F32(number) => number.to_string().parse().ok()?,
            Self::F64(number) => *number,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value as a truth value, where it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The value as a string, where it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a list, where it is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Reads a value and the type before it.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, Error> {
        let id = reader.u32("a metadata type")?;
        Self::of_type(id, reader, 0)
    }

    fn of_type(id: u32, reader: &mut Reader, depth: usize) -> Result<Self, Error> {
        const WHAT: &str = "a metadata value";
        Ok(match id {
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
        let count = reader.count("an array", least)?;
        (0..count)
            .map(|_| Self::of_type(id, reader, depth))
            .collect()
    }
}

fn truth(reader: &mut Reader) -> Result<bool, Error> {
    let at = reader.at();
    match reader.array("a metadata value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [byte] => Err(Error::Bool { at, byte }),
    }
}

/// The fewest bytes that a value of this type takes: of a string its length, of an array its type
/// and length.
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
