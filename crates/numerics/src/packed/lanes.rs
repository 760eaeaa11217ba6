//! Eight numbers at a time: the vector instructions of the packed kernels.
//!
//! Written out because the compiler does not find these instructions by itself in the loops of
//! [`row`](super::row). Sixteen at a time, by AVX-512, a first version was no more than a tenth faster
//! with 4 bits.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use pulp::{cast, f32x8, u32x8};

/// Numbers per vector.
pub const LANES: usize = 8;

/// The operations that the packed dot product needs, on a processor that has them.
pub trait Lanes: Copy {
    /// Eight words.
    type Words: Copy;
    /// Eight floats.
    type Floats: Copy;

    /// From memory.
    fn words(self, words: [u32; LANES]) -> Self::Words;
    /// From memory.
    fn floats(self, floats: [f32; LANES]) -> Self::Floats;
    /// Bitwise and with the same mask for all.
    fn and(self, words: Self::Words, mask: u32) -> Self::Words;
    /// Bitwise or.
    fn or(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Shifts each word right by a count of its own; a count of 32 or more gives 0.
    fn right(self, words: Self::Words, by: [u32; LANES]) -> Self::Words;
    /// Shifts each word left by a count of its own, below 32.
    fn left(self, words: Self::Words, by: [u32; LANES]) -> Self::Words;
    /// Words below 2³¹ converted to floats (AVX2 converts signed integers only).
    fn convert(self, words: Self::Words) -> Self::Floats;
    /// a + b
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b + c
    fn multiply_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// To memory.
    fn array(self, floats: Self::Floats) -> [f32; LANES];
}

#[cfg(target_arch = "x86_64")]
impl Lanes for pulp::x86::V3 {
    type Words = u32x8;
    type Floats = f32x8;

    #[inline(always)]
    fn words(self, words: [u32; LANES]) -> u32x8 {
        cast(words)
    }

    #[inline(always)]
    fn floats(self, floats: [f32; LANES]) -> f32x8 {
        cast(floats)
    }

    #[inline(always)]
    fn and(self, words: u32x8, mask: u32) -> u32x8 {
        self.and_u32x8(words, self.splat_u32x8(mask))
    }

    #[inline(always)]
    fn or(self, a: u32x8, b: u32x8) -> u32x8 {
        self.or_u32x8(a, b)
    }

    #[inline(always)]
    fn right(self, words: u32x8, by: [u32; LANES]) -> u32x8 {
        self.shr_dyn_u32x8(words, cast(by))
    }

    #[inline(always)]
    fn left(self, words: u32x8, by: [u32; LANES]) -> u32x8 {
        self.shl_dyn_u32x8(words, cast(by))
    }

    #[inline(always)]
    fn convert(self, words: u32x8) -> f32x8 {
        self.convert_i32x8_to_f32x8(cast(words))
    }

    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        self.add_f32x8(a, b)
    }

    #[inline(always)]
    fn multiply_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        self.mul_add_f32x8(a, b, c)
    }

    #[inline(always)]
    fn array(self, floats: f32x8) -> [f32; LANES] {
        cast(floats)
    }
}

/// The same on any other processor, with the instructions that the compiler finds.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Lanes for Plain {
    type Words = [u32; LANES];
    type Floats = [f32; LANES];

    #[inline(always)]
    fn words(self, words: [u32; LANES]) -> [u32; LANES] {
        words
    }

    #[inline(always)]
    fn floats(self, floats: [f32; LANES]) -> [f32; LANES] {
        floats
    }

    #[inline(always)]
    fn and(self, words: [u32; LANES], mask: u32) -> [u32; LANES] {
        words.map(|word| word & mask)
    }

    #[inline(always)]
    fn or(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn right(self, words: [u32; LANES], by: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| words[i].checked_shr(by[i]).unwrap_or(0))
    }

    #[inline(always)]
    fn left(self, words: [u32; LANES], by: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| words[i] << by[i])
    }

    #[inline(always)]
    fn convert(self, words: [u32; LANES]) -> [f32; LANES] {
        words.map(|word| word.cast_signed() as f32)
    }

    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn multiply_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        // Not fused: where there is no instruction for that, it takes a call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn array(self, floats: [f32; LANES]) -> [f32; LANES] {
        floats
    }
}
