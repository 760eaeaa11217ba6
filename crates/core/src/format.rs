//! The floating-point formats of a checkpoint, and conversion from and to `f32`.
//!
//! All computation is in `f32` or `f64`; formats matter only where tensors are read and written.

use std::{fmt, str::FromStr};

use half::{bf16, f16, slice::HalfFloatSliceExt as _};
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

    /// The little-endian bytes of the numbers, each rounded to the nearest of the format, halves to even. What `f16`
    /// cannot hold becomes infinite.
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
        let mut numbers = vec![0.0; bytes.len() / self.bytes()];
        self.decode_into(bytes, &mut numbers);
        numbers
    }

    /// [`decode`](Self::decode) into existing memory; stops at the shorter of the two sides.
    pub fn decode_into(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F32 => {
                let pairs = numbers.iter_mut().zip(bytes.as_chunks().0);
                pairs.for_each(|(x, &b)| *x = f32::from_le_bytes(b));
            }
            Self::F16 => decode_halves(bytes, numbers),
            // Not by `bf16::to_f32`, whose check for NaN prevents vectorisation: a bf16 is the upper half of an
            // `f32`, and a NaN stays a NaN.
            Self::Bf16 => {
                let pairs = numbers.iter_mut().zip(bytes.as_chunks().0);
                pairs.for_each(|(x, &b)| {
                    *x = f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
                });
            }
        }
    }

    /// The value of `torch_dtype` in a `config.json`.
    #[must_use]
    pub const fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

/// Through a buffer on the stack, a thousand at a time: the conversion of a whole slice uses the processor's own
/// instructions (F16C), but wants halves that are aligned.
fn decode_halves(bytes: &[u8], numbers: &mut [f32]) {
    let mut halves = [f16::ZERO; 1024];
    let runs = bytes.chunks(2 * halves.len());
    for (bytes, numbers) in runs.zip(numbers.chunks_mut(halves.len())) {
        let count = numbers.len().min(bytes.len() / 2);
        let pairs = halves.iter_mut().zip(bytes.as_chunks().0);
        pairs.for_each(|(half, &b)| *half = f16::from_le_bytes(b));
        halves[..count].convert_to_f32_slice(&mut numbers[..count]);
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
    fn many_numbers_are_decoded_as_one_by_one() {
        for format in [Format::F32, Format::F16, Format::Bf16] {
            let bytes: Vec<u8> = (0..format.bytes() as u32 * 70_000)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            let many = format.decode(&bytes);
            let ones = bytes.chunks_exact(format.bytes());
            for (many, one) in many.iter().zip(ones) {
                let one = match (format, one) {
                    (Format::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
                    (Format::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
                    (Format::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
                    _ => unreachable!("a number has 2 or 4 bytes"),
                };
                assert!(many.to_bits() == one.to_bits() || many.is_nan() && one.is_nan());
            }
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
