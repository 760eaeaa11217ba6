//! Rows of one head in memory: a page of tokens in one format.

use compress_numerics::{f16, kernels::vectorized};

use crate::{
    Format,
    integers::{GROUP, Integers},
};

/// Tokens of a page: small enough that a core's cache holds it while several queries read it.
pub const PAGE: usize = 128;

/// Some tokens' keys, or values: tokens × width.
#[derive(Clone, Debug)]
pub struct Rows {
    width: usize,
    /// Tokens that there is memory for.
    most: usize,
    numbers: Numbers,
}

#[derive(Clone, Debug)]
enum Numbers {
    Single(Vec<f32>),
    Half(Vec<f16>),
    Integers(Integers),
}

/// A 16-bit float as one of 32 bits, in a few operations that are the same for all numbers, so that the compiler makes
/// vector instructions of them: exponent and mantissa in their new places are the number over 2¹¹². Infinity, which no key
/// or value is, becomes 65536.
#[inline]
fn single(half: f16) -> f32 {
    const SCALE: f32 = f32::from_bits(0x7780_0000); // 2¹¹²
    let bits = u32::from(half.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * SCALE;
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

impl Rows {
    /// A page of no tokens, with room for `tokens`; nothing is ever copied to grow.
    pub fn new(format: Format, width: usize, tokens: usize) -> Self {
        let numbers = match format {
            Format::F32 => Numbers::Single(Vec::with_capacity(tokens * width)),
            Format::F16 => Numbers::Half(Vec::with_capacity(tokens * width)),
            Format::ByChannel { bits } => {
                Numbers::Integers(Integers::new((bits, true), width, tokens))
            }
            Format::ByToken { bits } | Format::Rotated { bits } => {
                Numbers::Integers(Integers::new((bits, false), width, tokens))
            }
        };
        Self {
            width,
            most: tokens,
            numbers,
        }
    }

    /// Appends tokens.
    pub fn extend(&mut self, rows: &[f32]) {
        match &mut self.numbers {
            Numbers::Single(numbers) => numbers.extend_from_slice(rows),
            Numbers::Half(numbers) => numbers.extend(rows.iter().map(|&x| f16::from_f32(x))),
            Numbers::Integers(integers) => integers.extend(rows),
        }
    }

    /// How many more tokens it takes: none where the last group of integers is not whole, since its grid is chosen.
    pub fn room(&self) -> usize {
        let tokens = self.tokens();
        let begun = matches!(&self.numbers, Numbers::Integers(_)) && !tokens.is_multiple_of(GROUP);
        if begun { 0 } else { self.most - tokens }
    }

    /// The numbers as they are multiplied, row after row; in `buffer` where they are not stored so.
    pub fn decoded<'a>(&'a self, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let count = self.tokens() * self.width;
        match &self.numbers {
            // The usual cache needs no buffer.
            Numbers::Single(numbers) => return numbers,
            Numbers::Half(numbers) => {
                buffer.resize(count, 0.0);
                vectorized(
                    #[inline(always)]
                    || {
                        let pairs = buffer.iter_mut().zip(numbers);
                        pairs.for_each(|(x, half)| *x = single(*half));
                    },
                );
            }
            Numbers::Integers(integers) => {
                buffer.resize(count, 0.0);
                integers.decode(buffer);
            }
        }
        buffer
    }

    /// Tokens in it.
    pub fn tokens(&self) -> usize {
        match &self.numbers {
            Numbers::Single(numbers) => numbers.len() / self.width.max(1),
            Numbers::Half(numbers) => numbers.len() / self.width.max(1),
            Numbers::Integers(integers) => integers.tokens(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_float_is_what_it_is() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_finite() {
                assert!(single(half).to_bits() == half.to_f32().to_bits(), "{half}");
            }
        }
    }
}
