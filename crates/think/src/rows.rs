//! The newest keys, or values, of one head: a page of whole tokens, which grows token by token.

use compress_numerics::{f16, kernels::vectorized};

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
}

/// A 16-bit float as one of 32 bits, in a few operations that are the same for all numbers, so that the compiler makes
/// vector instructions of them: exponent and mantissa in their new places are the number over 2¹¹². Infinity, which no key
/// or value is, becomes 65536.
#[inline(always)]
pub fn single(half: f16) -> f32 {
    const SCALE: f32 = f32::from_bits(0x7780_0000); // 2¹¹²
    let bits = u32::from(half.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * SCALE;
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

impl Rows {
    /// A page of no tokens, with room for `tokens`, in floats of 16 bits or of 32; nothing is ever copied to grow.
    pub fn new(half: bool, width: usize, tokens: usize) -> Self {
        let count = tokens * width;
        let numbers = if half {
            Numbers::Half(Vec::with_capacity(count))
        } else {
            Numbers::Single(Vec::with_capacity(count))
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
        }
    }

    /// How many more tokens it takes.
    pub fn room(&self) -> usize {
        self.most - self.tokens()
    }

    /// The numbers as they are multiplied, row after row; in `buffer` where they are not stored so.
    pub fn decoded<'a>(&'a self, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let halves = match &self.numbers {
            // The usual cache needs no buffer.
            Numbers::Single(numbers) => return numbers,
            Numbers::Half(halves) => halves,
        };
        buffer.resize(halves.len(), 0.0);
        vectorized(
            #[inline(always)]
            || {
                let pairs = buffer.iter_mut().zip(halves);
                pairs.for_each(|(x, half)| *x = single(*half));
            },
        );
        buffer
    }

    /// Tokens in it.
    pub fn tokens(&self) -> usize {
        let numbers = match &self.numbers {
            Numbers::Single(numbers) => numbers.len(),
            Numbers::Half(numbers) => numbers.len(),
        };
        numbers / self.width.max(1)
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
