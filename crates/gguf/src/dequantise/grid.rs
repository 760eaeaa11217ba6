//! Formats whose codes name points of a grid: several values at once, from a table of the vectors
//! that weights come close to.
//!
//! ```text
//! (value, …) = scale · (± level, …)        IQ2, IQ3: eight or four magnitudes, signs by themselves
//! (value, …) = scale · (level + shift, …)  IQ1: eight levels of −1, 0 and 1, one shift for all
//! ```
//!
//! Blocks of 256 values in groups of 16 or 32, with one `f16` factor d per block and a scale of 3 or
//! 4 bits per group. The functions list the fields of a block in the order of its bytes.

mod one;
mod three;
mod two;

use super::affine::{half, parts, unpack};

/// The magnitudes of the `IQ2` formats; there is no fourth.
const IQ2_LEVELS: [f32; 4] = [8.0, 25.0, 43.0, 0.0];
/// The magnitudes of `IQ3_XXS`.
const IQ3_XXS_LEVELS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
/// The magnitudes of `IQ3_S`.
const IQ3_S_LEVELS: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
/// The levels of the `IQ1` formats; there is no fourth.
const IQ1_LEVELS: [f32; 4] = [-1.0, 0.0, 1.0, 0.0];
/// The shift of the `IQ1` formats, up or down.
const IQ1_SHIFT: f32 = 0.125;

/// d, then for each group of 32 the indices of 4 points, and 32 bits: their signs of 7 bits each,
/// the scale; d · (scale + ½) / 4. 2.0625 bits per value.
#[inline]
pub(super) fn iq2_xxs(block: &[u8; 66], out: &mut [f32; 256]) {
    let [d0, d1, groups @ ..] = block;
    let d = half(*d0, *d1);
    let groups = groups.as_chunks::<8>().0.iter();
    for (group, out) in groups.zip(out.as_chunks_mut::<32>().0) {
        let (points, tail) = parts::<4, 4, 8>(group);
        let tail = u32::from_le_bytes(*tail);
        let scale = d * (0.5 + (tail >> 28) as f32) * 0.25;
        let points = points.iter().zip(out.as_chunks_mut().0);
        for ((index, out), shift) in points.zip([0, 7, 14, 21]) {
            let point = two::IQ2_XXS[usize::from(*index)];
            signed::<2, 4, 8>(point, &IQ2_LEVELS, scale, even(tail >> shift), out);
        }
    }
}

/// d, 32 words of 16 bits with the index of a point and 7 bits of its signs, 16 scales of 4 bits;
/// groups of 16; d · (scale + ½) / 4. 2.3125 bits per value.
#[inline]
pub(super) fn iq2_xs(block: &[u8; 74], out: &mut [f32; 256]) {
    let [d0, d1, rest @ ..] = block;
    let (words, scales) = parts::<64, 8, 72>(rest);
    let scales = quarters(half(*d0, *d1), *scales);
    let words = words.as_chunks().0.iter().zip(out.as_chunks_mut().0);
    for (j, (word, out)) in words.enumerate() {
        let word = u16::from_le_bytes(*word);
        let point = two::IQ2_XS[usize::from(word) % two::IQ2_XS.len()];
        let signs = even(u32::from(word >> 9));
        signed::<2, 4, 8>(point, &IQ2_LEVELS, scales[j / 2], signs, out);
    }
}

/// d, the lower 8 bits of 32 indices, a byte of signs for each, their upper two bits, 16 scales of 4
/// bits; groups of 16; d · (scale + ½) / 4. 2.5625 bits per value.
#[inline]
pub(super) fn iq2_s(block: &[u8; 82], out: &mut [f32; 256]) {
    let [d0, d1, rest @ ..] = block;
    let (low, rest) = parts::<32, 48, 80>(rest);
    let (signs, rest) = parts::<32, 16, 48>(rest);
    let (high, scales) = parts::<8, 8, 16>(rest);
    let scales = quarters(half(*d0, *d1), *scales);
    let points = indices(low, &unpack::<2, 1, 32>(high));
    let points = points.iter().zip(signs).zip(out.as_chunks_mut().0);
    for (j, ((index, signs), out)) in points.enumerate() {
        let point = two::IQ2_S[index % two::IQ2_S.len()];
        signed::<2, 4, 8>(point, &IQ2_LEVELS, scales[j / 2], *signs, out);
    }
}

/// d, the indices of 64 points of four values, then for each group of 32 the signs, 4 times 7 bits,
/// and the scale; d · (scale + ½) / 2. 3.0625 bits per value.
#[inline]
pub(super) fn iq3_xxs(block: &[u8; 98], out: &mut [f32; 256]) {
    let [d0, d1, rest @ ..] = block;
    let (points, tails) = parts::<64, 32, 96>(rest);
    let d = half(*d0, *d1);
    let groups = points.as_chunks::<8>().0.iter().zip(tails.as_chunks().0);
    for ((points, tail), out) in groups.zip(out.as_chunks_mut::<32>().0) {
        let tail = u32::from_le_bytes(*tail);
        let scale = d * (0.5 + (tail >> 28) as f32) * 0.5;
        let points = points.iter().zip(out.as_chunks_mut().0);
        for (k, (index, out)) in points.enumerate() {
            let point = three::IQ3_XXS[usize::from(*index)];
            // Two points share the signs of eight values.
            let signs = even(tail >> (7 * (k / 2))) >> (4 * (k % 2));
            signed::<4, 8, 4>(point, &IQ3_XXS_LEVELS, scale, signs, out);
        }
    }
}

/// d, the lower 8 bits of 64 indices, their ninth bits, a byte of signs for two points each, 8
/// scales of 4 bits; groups of 32; d · (2 · scale + 1). 3.4375 bits per value.
#[inline]
pub(super) fn iq3_s(block: &[u8; 110], out: &mut [f32; 256]) {
    let [d0, d1, rest @ ..] = block;
    let (low, rest) = parts::<64, 44, 108>(rest);
    let (high, rest) = parts::<8, 36, 44>(rest);
    let (signs, scales) = parts::<32, 4, 36>(rest);
    let d = half(*d0, *d1);
    let scales = unpack::<4, 1, 8>(scales).map(|scale| d * f32::from(2 * scale + 1));
    let points = indices(low, &unpack::<1, 1, 64>(high));
    let points = points.iter().zip(out.as_chunks_mut().0);
    for (k, (index, out)) in points.enumerate() {
        let point = three::IQ3_S[index % three::IQ3_S.len()];
        let signs = signs[k / 2] >> (4 * (k % 2));
        signed::<4, 8, 4>(point, &IQ3_S_LEVELS, scales[k / 8], signs, out);
    }
}

/// d, the lower 8 bits of 32 indices, then for each group of 32 the upper three bits of its 4
/// indices, a scale of 3 bits and whether the shift is down; d · (2 · scale + 1). 1.5625 bits per
/// value.
#[inline]
pub(super) fn iq1_s(block: &[u8; 50], out: &mut [f32; 256]) {
    let [d0, d1, rest @ ..] = block;
    let (low, heads) = parts::<32, 16, 48>(rest);
    let d = half(*d0, *d1);
    let groups = low.as_chunks::<4>().0.iter().zip(heads.as_chunks().0);
    for ((low, head), out) in groups.zip(out.as_chunks_mut::<32>().0) {
        let head = u16::from_le_bytes(*head);
        let scale = d * f32::from(2 * (head >> 12 & 7) + 1);
        let points = low.iter().zip(out.as_chunks_mut().0);
        for ((low, out), shift) in points.zip([0, 3, 6, 9]) {
            let index = u16::from(*low) | (head >> shift & 7) << 8;
            shifted(index, head >> 15 == 1, scale, out);
        }
    }
}

/// The lower 8 bits of 32 indices, half a byte for each with its upper three and whether the shift
/// is down, then 4 words of 16 bits with 4 scales of 3 bits each and, in what is left of them, the
/// bits of d; groups of 16; d · (2 · scale + 1). 1.75 bits per value.
#[inline]
pub(super) fn iq1_m(block: &[u8; 56], out: &mut [f32; 256]) {
    let (low, rest) = parts::<32, 24, 56>(block);
    let (high, words) = parts::<16, 8, 24>(rest);
    let [_, a, _, b, _, c, _, e] = *words;
    let d = half(a >> 4 | b & 0xF0, c >> 4 | e & 0xF0);
    let words = u64::from_le_bytes(*words);
    let points = low.iter().zip(unpack::<4, 1, 32>(high));
    for (j, ((low, high), out)) in points.zip(out.as_chunks_mut().0).enumerate() {
        let group = j / 2;
        let scale = (words >> (16 * (group / 4) + 3 * (group % 4)) & 7) as u8;
        let index = u16::from(*low) | u16::from(high & 7) << 8;
        shifted(index, high & 8 != 0, d * f32::from(2 * scale + 1), out);
    }
}

/// A point of magnitudes, each `BITS` wide, with a sign by the bit of its place.
#[inline]
fn signed<const BITS: usize, const LEVELS: usize, const N: usize>(
    point: u16,
    levels: &[f32; LEVELS],
    scale: f32,
    signs: u8,
    out: &mut [f32; N],
) {
    for (k, out) in out.iter_mut().enumerate() {
        let value = scale * levels[usize::from(point >> (BITS * k)) % LEVELS];
        *out = if signs >> k & 1 == 1 { -value } else { value };
    }
}

/// A point of the `IQ1` grid, all of its levels shifted up or down.
#[inline]
fn shifted(index: u16, down: bool, scale: f32, out: &mut [f32; 8]) {
    let point = one::IQ1[usize::from(index) % one::IQ1.len()];
    let shift = if down { -IQ1_SHIFT } else { IQ1_SHIFT };
    for (k, out) in out.iter_mut().enumerate() {
        *out = scale * (IQ1_LEVELS[usize::from(point >> (2 * k)) % 4] + shift);
    }
}

/// Eight signs from the lowest seven bits: an even number of signs is negative, so that the last
/// follows from the others.
#[inline]
fn even(bits: u32) -> u8 {
    let seven = (bits & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// 16 scales of 4 bits, as d · (scale + ½) / 4.
#[inline]
fn quarters(d: f32, scales: [u8; 8]) -> [f32; 16] {
    unpack::<4, 1, 16>(&scales).map(|scale| d * (0.5 + f32::from(scale)) * 0.25)
}

/// Joins the lower 8 bits of indices with those above.
#[inline]
fn indices<const N: usize>(low: &[u8; N], high: &[u8; N]) -> [usize; N] {
    std::array::from_fn(|j| usize::from(low[j]) | usize::from(high[j]) << 8)
}
