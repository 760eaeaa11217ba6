//! Numbers as small integers: asymmetric rounding of groups of 32.
//!
//! ```text
//! x ≈ m + s c,   m = min x,   s = (max x − min x) / (2ᵇ − 1),   c = round((x − m) / s)
//! ```
//!
//! m and s are 16-bit floats: b + 1 bits per number in all.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::f16;

/// Numbers that share m and s.
pub const GROUP: usize = 32;

/// As many of them are in registers at a time.
pub const HALF: usize = GROUP / 2;

/// s and m of a group, finite for numbers that 16 bits hold.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub scale: f16,
    pub least: f16,
}

impl Grid {
    /// The grid from the least number to the largest.
    pub fn of<'a>(numbers: impl Iterator<Item = &'a f32>, bits: u8) -> Self {
        let (least, most) = numbers.fold(
            (f32::INFINITY, f32::NEG_INFINITY),
            |(least, most): (f32, f32), &x| (least.min(x), most.max(x)),
        );
        // From the m that is stored, so that its rounding is in the integers.
        let least = f16::from_f32(least);
        let scale = (most - least.to_f32()) / f32::from(mask(bits));
        Self {
            scale: f16::from_f32(scale.max(0.0)),
            least,
        }
    }

    /// The integer next to a number. A group of equal numbers has the scale 0: NaN, or an infinity, becomes 0 or the
    /// largest.
    pub fn code(self, x: f32, bits: u8) -> u8 {
        let steps = (x - self.least.to_f32()) / self.scale.to_f32();
        steps.round().clamp(0.0, f32::from(mask(bits))) as u8
    }
}

/// Integers of 3 bits lie in two planes, of 2 bits and of 1; others in one: the place of a plane's bits in the integer,
/// and their number, which divides 8.
const fn planes(bits: u8) -> &'static [(u8, u8)] {
    match bits {
        2 => &[(0, 2)],
        3 => &[(0, 2), (2, 1)],
        4 => &[(0, 4)],
        _ => &[(0, 8)],
    }
}

/// Bytes of a plane of at most 32 integers.
const fn plane_bytes(bits: u8, count: usize) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Bytes of a group of at most 32 integers.
pub fn group_bytes(bits: u8, count: usize) -> usize {
    let planes = planes(bits).iter();
    planes.map(|(_, bits)| plane_bytes(*bits, count)).sum()
}

/// Appends a group of integers, at most 32, plane after plane. The first of them are the low bits of the plane's bytes, one
/// in each, the next ones the bits above, and so on: neighbours are shifted by the same count.
pub fn pack(codes: &[u8], bits: u8, out: &mut Vec<u8>) {
    for &(place, bits) in planes(bits) {
        let count = plane_bytes(bits, codes.len());
        let first = out.len();
        out.resize(first + count, 0);
        for (codes, shift) in codes.chunks(count).zip((0..).step_by(usize::from(bits))) {
            for (byte, code) in out[first..].iter_mut().zip(codes) {
                *byte |= (code >> place & mask(bits)) << shift;
            }
        }
    }
}

/// A half of the integers of a group. Those that are not there, of a group of fewer than 32, are 0.
#[inline(always)]
pub fn unpack<const BITS: u8>(bytes: &[u8], (count, half): (usize, usize)) -> [f32; HALF] {
    if count < GROUP {
        return unpack_some(bytes, BITS, (count, half));
    }
    let mut codes = [0; HALF];
    match BITS {
        2 => add_plane::<2, 8>(bytes, half, &mut codes),
        3 => {
            let (low, high) = bytes.split_at(GROUP / 4);
            add_plane::<2, 8>(low, half, &mut codes);
            add_high_bits(high, half, &mut codes);
        }
        4 => add_plane::<4, 16>(bytes, half, &mut codes),
        _ => add_plane::<8, 16>(bytes, half, &mut codes),
    }
    let mut out = [0.0; HALF];
    for (out, code) in out.iter_mut().zip(codes) {
        // Signed, which is what the vector instructions convert.
        *out = code.cast_signed() as f32;
    }
    out
}

/// Adds a plane's bits to a half of the integers of a whole group, `COUNT` neighbours in as many bytes at a time.
#[inline(always)]
fn add_plane<const BITS: usize, const COUNT: usize>(
    bytes: &[u8],
    half: usize,
    codes: &mut [u32; HALF],
) {
    let each = GROUP * BITS / 8;
    for (index, codes) in codes.as_chunks_mut::<COUNT>().0.iter_mut().enumerate() {
        let lane = half * HALF + index * COUNT;
        let shift = lane / each * BITS;
        for (code, byte) in codes.iter_mut().zip(&bytes[lane % each..][..COUNT]) {
            *code |= (u32::from(*byte) >> shift) & ((1 << BITS) - 1);
        }
    }
}

/// Adds the plane of the third bits, all of which are in one word: a mask for each lane is faster than vectors of four
/// bytes.
#[inline(always)]
fn add_high_bits(bytes: &[u8], half: usize, codes: &mut [u32; HALF]) {
    let word = bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u32::from(*byte));
    // A byte has the bits of every fourth integer; half of them are the first half's.
    let word = word >> (half * 4);
    for (lane, code) in codes.iter_mut().enumerate() {
        let bit = 1 << (lane % 4 * 8 + lane / 4);
        *code |= if word & bit == 0 { 0 } else { 4 };
    }
}

/// The same of a group of fewer than 32, one by one.
fn unpack_some(bytes: &[u8], bits: u8, (count, half): (usize, usize)) -> [f32; HALF] {
    let mut out = [0.0; HALF];
    for (out, lane) in out.iter_mut().zip(half * HALF..count) {
        let (mut rest, mut code) = (bytes, 0);
        for &(place, bits) in planes(bits) {
            let (plane, others) = rest.split_at(plane_bytes(bits, count));
            let shift = lane / plane.len() * usize::from(bits);
            code |= (plane[lane % plane.len()] >> shift & mask(bits)) << place;
            rest = others;
        }
        *out = f32::from(code);
    }
    out
}

const fn mask(bits: u8) -> u8 {
    u8::MAX >> (8 - bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<const BITS: u8>(codes: &[u8]) {
        let codes: Vec<u8> = codes.iter().map(|code| code & mask(BITS)).collect();
        let mut bytes = Vec::new();
        pack(&codes, BITS, &mut bytes);
        assert_eq!(bytes.len(), group_bytes(BITS, codes.len()));
        let back = [0, 1].map(|half| unpack::<BITS>(&bytes, (codes.len(), half)));
        let back = back.as_flattened();
        let rest = vec![0; GROUP - codes.len()];
        let codes = codes.iter().chain(&rest);
        assert!(back.iter().zip(codes).all(|(x, code)| *x as u8 == *code));
    }

    proptest! {
        #[test]
        fn integers_come_back(codes in prop::collection::vec(any::<u8>(), 1..=32)) {
            check::<2>(&codes);
            check::<3>(&codes);
            check::<4>(&codes);
            check::<8>(&codes);
        }
    }

    #[test]
    fn equal_numbers_are_exact() {
        let grid = Grid::of([1.5, 1.5].iter(), 4);
        assert_eq!(
            (grid.code(1.5, 4), grid.scale, grid.least.to_f32()),
            (0, f16::ZERO, 1.5)
        );
    }
}
