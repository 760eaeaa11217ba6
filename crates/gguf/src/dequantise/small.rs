//! Blocks of 32 values with one `f16` scale d, and in the `_1` formats one `f16` shift m.
//!
//! ```text
//! _0    value = d · (code − zero point)
//! _1    value = d · code + m
//! ```
//!
//! The functions list the fields of a block in the order of its bytes.

use super::affine::{NOTHING, half, scaled, unpack};

/// d, then 32 codes of 4 bits; d · (code − 8). 4.5 bits per value.
#[inline]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    scaled::<8, 32>(
        &unpack::<4, 16, 32>(codes),
        &[(half(*d0, *d1), NOTHING)],
        out,
    );
}

/// d, m, then 32 codes of 4 bits; d · code + m. 5 bits per value.
#[inline]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, codes @ ..] = block;
    scaled::<0, 32>(
        &unpack::<4, 16, 32>(codes),
        &[(half(*d0, *d1), half(*m0, *m1))],
        out,
    );
}

/// d, the fifth bits of 32 codes, then their lower four; d · (code − 16). 5.5 bits per value.
#[inline]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, low @ ..] = block;
    scaled::<16, 32>(
        &five_bits(low, [*h0, *h1, *h2, *h3]),
        &[(half(*d0, *d1), NOTHING)],
        out,
    );
}

/// d, m, the fifth bits of 32 codes, then their lower four; d · code + m. 6 bits per value.
#[inline]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, low @ ..] = block;
    scaled::<0, 32>(
        &five_bits(low, [*h0, *h1, *h2, *h3]),
        &[(half(*d0, *d1), half(*m0, *m1))],
        out,
    );
}

/// d, then 32 signed codes of 8 bits; d · code. 8.5 bits per value.
#[inline]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    let d = half(*d0, *d1);
    for (code, out) in codes.iter().zip(out) {
        *out = d * f32::from(code.cast_signed());
    }
}

/// Joins the lower four bits of 32 codes with their fifth: bit i of the four bytes belongs to code
/// i.
#[inline]
fn five_bits(low: &[u8; 16], high: [u8; 4]) -> [u8; 32] {
    let mut codes = unpack::<4, 16, 32>(low);
    for (code, fifth) in codes.iter_mut().zip(unpack::<1, 1, 32>(&high)) {
        *code |= fifth << 4;
    }
    codes
}
