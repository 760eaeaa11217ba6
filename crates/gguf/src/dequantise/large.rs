//! The K formats: blocks of 256 values in groups of 16 or 32.
//!
//! ```text
//! value = d · scale · code − e · minimum
//! ```
//!
//! d and e are `f16`, one each per block; scales and minima are integers of 4, 6 or 8 bits, one per
//! group. The functions list the fields of a block in the order of its bytes.

use std::array;

use super::affine::{NOTHING, half, parts, scaled, unpack};

/// A byte per group with scale and minimum of 4 bits each (16 bytes), 256 codes of 2 bits, d, e;
/// groups of 16. 2.625 bits per value.
#[inline]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let [head @ .., d0, d1, e0, e1] = block;
    let (factors, codes) = parts::<16, 64, 80>(head);
    let (d, e) = (half(*d0, *d1), half(*e0, *e1));
    let groups = factors.map(|factor| (d * f32::from(factor & 15), -(e * f32::from(factor >> 4))));
    scaled::<0, 16>(&unpack::<2, 32, 256>(codes), &groups, out);
}

/// The third bits of 256 codes, their lower two, 16 scales of 6 bits, d; groups of 16; d · (scale −
/// 32) · (code − 4). 3.4375 bits per value.
#[inline]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let [head @ .., d0, d1] = block;
    let (high, rest) = parts::<32, 76, 108>(head);
    let (low, scales) = parts::<64, 12, 76>(rest);
    let mut codes = unpack::<2, 32, 256>(low);
    for (code, third) in codes.iter_mut().zip(unpack::<1, 32, 256>(high)) {
        *code |= third << 2;
    }
    // Scales have an offset of 32, codes of 4: both are stored unsigned.
    let d = half(*d0, *d1);
    let groups =
        six_bit_scales(scales).map(|scale| (d * f32::from(i16::from(scale) - 32), NOTHING));
    scaled::<4, 16>(&codes, &groups, out);
}

/// d, e, 8 scales and 8 minima of 6 bits (12 bytes), 256 codes of 4 bits; groups of 32. 4.5 bits
/// per value.
#[inline]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let [d0, d1, e0, e1, rest @ ..] = block;
    let (factors, codes) = parts::<12, 128, 140>(rest);
    let groups = scales_and_minima(factors, half(*d0, *d1), half(*e0, *e1));
    scaled::<0, 32>(&unpack::<4, 32, 256>(codes), &groups, out);
}

/// d, e, 8 scales and 8 minima of 6 bits, the fifth bits of 256 codes, their lower four; groups of
/// 32. 5.5 bits per value.
#[inline]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let [d0, d1, e0, e1, rest @ ..] = block;
    let (factors, rest) = parts::<12, 160, 172>(rest);
    let (high, low) = parts::<32, 128, 160>(rest);
    let mut codes = unpack::<4, 32, 256>(low);
    for (code, fifth) in codes.iter_mut().zip(unpack::<1, 32, 256>(high)) {
        *code |= fifth << 4;
    }
    let groups = scales_and_minima(factors, half(*d0, *d1), half(*e0, *e1));
    scaled::<0, 32>(&codes, &groups, out);
}

/// The lower four bits of 256 codes, their upper two, 16 signed scales of 8 bits, d; groups of 16;
/// d · scale · (code − 32). 6.5625 bits per value.
#[inline]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let [head @ .., d0, d1] = block;
    let (low, rest) = parts::<128, 80, 208>(head);
    let (high, scales) = parts::<64, 16, 80>(rest);
    let mut codes = unpack::<4, 64, 256>(low);
    for (code, upper) in codes.iter_mut().zip(unpack::<2, 32, 256>(high)) {
        *code |= upper << 4;
    }
    let d = half(*d0, *d1);
    let groups = scales.map(|scale| (d * f32::from(scale.cast_signed()), NOTHING));
    scaled::<32, 16>(&codes, &groups, out);
}

/// The 16 scales of a `Q3_K` block: scale g has its lower four bits in byte g mod 8, its upper two
/// in byte 8 + g mod 4.
#[inline]
fn six_bit_scales(packed: &[u8; 12]) -> [u8; 16] {
    let (low, high) = parts::<8, 4, 12>(packed);
    let low = unpack::<4, 8, 16>(low);
    let high = unpack::<2, 4, 16>(high);
    array::from_fn(|g| low[g] | high[g] << 4)
}

/// The 8 pairs (d · scale, −e · minimum) of a `Q4_K` or `Q5_K` block. For g < 4, scale and minimum
/// are the lower six bits of bytes g and 4 + g; for g ≥ 4 their lower four bits are the halves of
/// byte 4 + g, their upper two those left over in bytes g − 4 and g.
#[inline]
fn scales_and_minima(packed: &[u8; 12], d: f32, e: f32) -> [(f32, f32); 8] {
    array::from_fn(|g| {
        let (scale, minimum) = if g < 4 {
            (packed[g] & 63, packed[g + 4] & 63)
        } else {
            (
                packed[g + 4] & 15 | packed[g - 4] >> 6 << 4,
                packed[g + 4] >> 4 | packed[g] >> 6 << 4,
            )
        };
        (d * f32::from(scale), -(e * f32::from(minimum)))
    })
}
