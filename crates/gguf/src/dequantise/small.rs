//! Blocks of 32 values with one scale d, and in the `_1` formats one shift m: d · code + m.

use super::affine::{NOTHING, half, scaled, unpack};

/// d, then 32 codes of 4 bits; d · (code − 8).
#[inline]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    scaled::<8, 32>(
        &unpack::<4, 16, 32>(codes),
        &[(half(*d0, *d1), NOTHING)],
        out,
    );
}

/// d, m, then 32 codes of 4 bits; d · code + m.
#[inline]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, codes @ ..] = block;
    scaled::<0, 32>(
        &unpack::<4, 16, 32>(codes),
        &[(half(*d0, *d1), half(*m0, *m1))],
        out,
    );
}

/// d, the fifth bits, then the lower four of each code; d · (code − 16).
#[inline]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, low @ ..] = block;
    scaled::<16, 32>(
        &five_bits(low, [*h0, *h1, *h2, *h3]),
        &[(half(*d0, *d1), NOTHING)],
        out,
    );
}

/// d, m, the fifth bits, then the lower four of each code; d · code + m.
#[inline]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, low @ ..] = block;
    scaled::<0, 32>(
        &five_bits(low, [*h0, *h1, *h2, *h3]),
        &[(half(*d0, *d1), half(*m0, *m1))],
        out,
    );
}

/// d, then 32 signed bytes; d · code.
#[inline]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    let d = half(*d0, *d1);
    for (code, out) in codes.iter().zip(out) {
        *out = d * f32::from(code.cast_signed());
    }
}

#[inline]
fn five_bits(low: &[u8; 16], high: [u8; 4]) -> [u8; 32] {
    let mut codes = unpack::<4, 16, 32>(low);
    for (code, fifth) in codes.iter_mut().zip(unpack::<1, 1, 32>(&high)) {
        *code |= fifth << 4;
    }
    codes
}
