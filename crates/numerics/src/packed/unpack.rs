//! Unpacks the codes of a row to floats in their order: for products of many rows, which are worth a panel of numbers.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use crate::kernels::vectorized;

/// Unpacks as many codes as `numbers` has room for, unsigned: 0 … 2^bits − 1. The caller subtracts the offset and the
/// zero point.
pub fn codes(words: &[u32], bits: usize, numbers: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || match bits {
            // Widths that divide 32 have no code across two words, and a loop of constant length per word.
            2 => within_words::<2, 16>(words, numbers),
            4 => within_words::<4, 8>(words, numbers),
            8 => within_words::<8, 4>(words, numbers),
            _ => across_words(words, bits, numbers),
        },
    );
}

#[inline(always)]
fn within_words<const BITS: usize, const COUNT: usize>(words: &[u32], numbers: &mut [f32]) {
    let code =
        |word: u32, k: usize| ((word >> (BITS * k)) & ((1 << BITS) - 1)).cast_signed() as f32;
    let (whole, rest) = numbers.as_chunks_mut::<COUNT>();
    for (numbers, &word) in whole.iter_mut().zip(words) {
        *numbers = std::array::from_fn(|k| code(word, k));
    }
    for (k, number) in rest.iter_mut().enumerate() {
        *number = code(words[whole.len()], k);
    }
}

/// Codes of three bits, some of which begin in one word and end in the next.
fn across_words(words: &[u32], bits: usize, numbers: &mut [f32]) {
    for (i, number) in numbers.iter_mut().enumerate() {
        let (word, bit) = (i * bits / 32, i * bits % 32);
        // Both words in 64 bits, so that a code across them needs no case of its own.
        let next = words.get(word + 1).copied().unwrap_or(0);
        let both = u64::from(words[word]) | u64::from(next) << 32;
        *number = ((both >> bit) as i32 & ((1 << bits) - 1)) as f32;
    }
}
