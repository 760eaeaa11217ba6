//! Formats whose codes of four bits name one of sixteen values that are not evenly spaced.
//!
//! ```text
//! value = scale · table[code]
//! ```
//!
//! The functions list the fields of a block in the order of its bytes.

use std::array;

use super::affine::{half, parts, unpack};

/// The values of the `IQ4` formats, denser around zero as weights are.
const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// Twice the values of a float with a sign, two bits of exponent and one of the fraction; the scale
/// is halved in return.
const E2M1: [f32; 16] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0,
];

/// d, then 32 codes. 4.5 bits per value.
#[inline]
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    looked_up(&IQ4, half(*d0, *d1), codes, out);
}

/// d, the upper two bits of 8 scales, their lower four, 256 codes; groups of 32; d · (scale − 32) ·
/// table[code]. 4.25 bits per value.
#[inline]
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let [d0, d1, h0, h1, rest @ ..] = block;
    let (low, codes) = parts::<4, 128, 132>(rest);
    let d = half(*d0, *d1);
    let (low, high) = (unpack::<4, 1, 8>(low), unpack::<2, 1, 8>(&[*h0, *h1]));
    let scales: [f32; 8] = array::from_fn(|g| {
        let scale = i16::from(low[g] | high[g] << 4) - 32;
        d * f32::from(scale)
    });
    let groups = codes.as_chunks().0.iter().zip(out.as_chunks_mut().0);
    for ((codes, out), scale) in groups.zip(scales) {
        looked_up(&IQ4, scale, codes, out);
    }
}

/// A power of two as scale, then 32 codes. 4.25 bits per value.
#[inline]
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let [exponent, codes @ ..] = block;
    looked_up(&E2M1, half_power(*exponent), codes, out);
}

/// value = scale · table[code], for 32 codes in 16 bytes: the lower halves of all bytes first.
#[inline]
fn looked_up(table: &[f32; 16], scale: f32, codes: &[u8; 16], out: &mut [f32; 32]) {
    for (code, out) in unpack::<4, 16, 32>(codes).iter().zip(out) {
        *out = scale * table[usize::from(code & 15)];
    }
}

/// Half of 2^(exponent − 127), the scale of the microscaling formats.
#[inline]
fn half_power(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        // Below the smallest normal number the fraction's bits say which power it is.
        0 | 1 => 0x0020_0000 << exponent,
        _ => (u32::from(exponent) - 1) << 23,
    })
}
