//! How a number is kept on disk.

use std::{fmt, str::FromStr};

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A floating-point format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32 bits, IEEE 754.
    F32,
    /// 16 bits, IEEE 754: 11 significant bits, largest number 65504.
    F16,
    /// 16 bits, the upper half of an `f32`: 8 significant bits, the range of `f32`.
    Bf16,
}

impl Format {
    /// Bytes of one number.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The little-endian bytes of the numbers, each rounded to nearest.
    #[must_use]
    pub fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => numbers
                .iter()
                .flat_map(|&x| f16::from_f32(x).to_le_bytes())
                .collect(),
            Self::Bf16 => numbers
                .iter()
                .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                .collect(),
        }
    }

    /// The numbers in little-endian bytes; trailing bytes that make no whole number are dropped.
    #[must_use]
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect(),
            Self::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f16::from_le_bytes(b).to_f32())
                .collect(),
            Self::Bf16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| bf16::from_le_bytes(b).to_f32())
                .collect(),
        }
    }

    /// The name that `torch_dtype` has in a `config.json`.
    #[must_use]
    pub const fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::Parse {
                text: text.into(),
                expected: "a number format: f32, f16 or bf16",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_gives_back_the_numbers_it_can_hold() {
        let numbers = [0.0, 1.0, -2.5, 0.15625, 384.0, -0.007_812_5];
        for format in [Format::F32, Format::F16, Format::Bf16] {
            let bytes = format.encode(&numbers);
            assert_eq!(bytes.len(), numbers.len() * format.bytes());
            assert_eq!(format.decode(&bytes), numbers);
        }
    }

    #[test]
    fn names_are_read_back() {
        for format in [Format::F32, Format::F16, Format::Bf16] {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert!("fp8".parse::<Format>().is_err());
    }
}
