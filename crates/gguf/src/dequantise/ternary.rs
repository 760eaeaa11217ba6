//! Formats of the values −d, 0 and d, in blocks of 256 with one `f16` scale d at their end.
//!
//! ```text
//! value = d · (code − 1)
//! ```

use super::affine::{NOTHING, half, parts, scaled, unpack};

/// 240 codes, five to a byte (48 bytes), 16 codes, four to a byte, d. 1.6875 bits per value.
#[inline]
pub(super) fn tq1_0(block: &[u8; 54], out: &mut [f32; 256]) {
    let [head @ .., d0, d1] = block;
    let (fives, fours) = parts::<48, 4, 52>(head);
    let (long, short) = parts::<32, 16, 48>(fives);
    let mut codes = [0; 256];
    let (first, rest) = codes.split_at_mut(5 * long.len());
    let (second, third) = rest.split_at_mut(5 * short.len());
    digits(long, first);
    digits(short, second);
    digits(fours, third);
    scaled::<1, 256>(&codes, &[(half(*d0, *d1), NOTHING)], out);
}

/// 256 codes of 2 bits, d. 2.0625 bits per value.
#[inline]
pub(super) fn tq2_0(block: &[u8; 66], out: &mut [f32; 256]) {
    let [codes @ .., d0, d1] = block;
    scaled::<1, 256>(
        &unpack::<2, 32, 256>(codes),
        &[(half(*d0, *d1), NOTHING)],
        out,
    );
}

/// Digits to base three, first the highest of every byte, then the next ones. A byte b stands for
/// the fraction b / 256, whose digits come before the point one by one as it is multiplied by 3.
#[inline]
fn digits(bytes: &[u8], codes: &mut [u8]) {
    let powers = [1_u8, 3, 9, 27, 81];
    for (codes, power) in codes.chunks_mut(bytes.len()).zip(powers) {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            let fraction = byte.wrapping_mul(power);
            *code = ((u16::from(fraction) * 3) >> 8) as u8;
        }
    }
}
