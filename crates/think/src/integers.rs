//! Numbers as small integers, which share a scale with others of their group.
//!
//! ```text
//! x ≈ m + s c
//! asymmetric:  m = min x,   s = (max x − min x) / (2ᵇ − 1),   c = round((x − m) / s)
//! symmetric:   m = −s (2ᵇ − 1) / 2, not stored
//! ```
//!
//! m and s are 16-bit floats. An asymmetric grid holds the least and the largest number, as keys need it: one channel far
//! from 0, or one outlier, is what attention goes by. A symmetric one is for rotated channels, which are close to normal: its
//! step is the best for a normal distribution (Max, "Quantizing for minimum distortion", 1960), and cuts off what lies far
//! out. That alone would make vectors shorter, all in the same way, and an average over many tokens too; so s is stored
//! such that the inner product of what is stored with what was given is that of the vector with itself (as in
//! TurboQuant, arXiv 2504.19874).

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::f16;

/// Numbers that share m and s.
pub const GROUP: usize = 64;

/// As many of them are in registers at a time.
pub const PART: usize = 16;

/// s and m of a group, finite for numbers that 16 bits hold.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub scale: f16,
    pub least: f16,
}

impl Grid {
    /// The asymmetric grid, from the least number to the largest.
    pub fn asymmetric<'a>(numbers: impl Iterator<Item = &'a f32>, bits: u8) -> Self {
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

    /// The symmetric grid for numbers that are close to normal, around 0.
    pub fn symmetric<'a>(numbers: impl Iterator<Item = &'a f32> + Clone, bits: u8) -> Self {
        let count = numbers.clone().count().max(1) as f32;
        let squares: f32 = numbers.clone().map(|x| x * x).sum();
        let deviation = (squares / count).sqrt();
        // Max's table. Of 8 bits there are enough to cut nothing off.
        let step = match bits {
            2 => 0.9957 * deviation,
            3 => 0.5860 * deviation,
            4 => 0.3352 * deviation,
            _ => numbers.fold(0.0, |most: f32, x| most.max(x.abs())) / f32::from(mask(bits)) * 2.0,
        };
        Self::around_zero(f16::from_f32(step), bits)
    }

    fn around_zero(scale: f16, bits: u8) -> Self {
        let half = f32::from(mask(bits)) / 2.0;
        Self {
            scale,
            least: f16::from_f32(-half * scale.to_f32()),
        }
    }

    /// The scale that makes up for what a symmetric grid cuts off numbers with these integers.
    pub fn unbiased<'a>(self, numbers: impl Iterator<Item = &'a f32>, bits: u8) -> f16 {
        let half = f32::from(mask(bits)) / 2.0;
        let (mut squares, mut products) = (0.0, 0.0);
        for &x in numbers {
            squares += x * x;
            products += x * (f32::from(self.code(x, bits)) - half);
        }
        // All zeros have no direction to keep.
        if products > 0.0 {
            f16::from_f32(squares / products)
        } else {
            self.scale
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

/// Bytes of a plane of at most 64 integers.
const fn plane_bytes(bits: u8, count: usize) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Bytes of a group of at most 64 integers.
pub fn group_bytes(bits: u8, count: usize) -> usize {
    let planes = planes(bits).iter();
    planes.map(|(_, bits)| plane_bytes(*bits, count)).sum()
}

/// Appends a group of integers, at most 64, plane after plane. The first of them are the low bits of the plane's bytes, one
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

/// 16 of the integers of a group. Those that are not there, of a group of fewer than 64, are 0.
#[inline(always)]
pub fn unpack<const BITS: u8>(bytes: &[u8], (count, part): (usize, usize)) -> [f32; PART] {
    if count < GROUP {
        return unpack_some(bytes, BITS, (count, part));
    }
    let mut codes = [0; PART];
    match BITS {
        2 => add_plane::<2, 16>(bytes, part, 0, &mut codes),
        3 => {
            let (low, high) = bytes.split_at(GROUP / 4);
            add_plane::<2, 16>(low, part, 0, &mut codes);
            add_plane::<1, 8>(high, part, 2, &mut codes);
        }
        4 => add_plane::<4, 16>(bytes, part, 0, &mut codes),
        _ => add_plane::<8, 16>(bytes, part, 0, &mut codes),
    }
    let mut out = [0.0; PART];
    for (out, code) in out.iter_mut().zip(codes) {
        // Signed, which is what the vector instructions convert.
        *out = code.cast_signed() as f32;
    }
    out
}

/// Adds a plane's bits to 16 of the integers of a whole group, in their place, `COUNT` neighbours in as many bytes at a
/// time.
#[inline(always)]
fn add_plane<const BITS: usize, const COUNT: usize>(
    bytes: &[u8],
    part: usize,
    place: usize,
    codes: &mut [u32; PART],
) {
    let each = GROUP * BITS / 8;
    for (index, codes) in codes.as_chunks_mut::<COUNT>().0.iter_mut().enumerate() {
        let lane = part * PART + index * COUNT;
        let shift = lane / each * BITS;
        for (code, byte) in codes.iter_mut().zip(&bytes[lane % each..][..COUNT]) {
            *code |= ((u32::from(*byte) >> shift) & ((1 << BITS) - 1)) << place;
        }
    }
}

/// The same of a group of fewer than 64, one by one.
fn unpack_some(bytes: &[u8], bits: u8, (count, part): (usize, usize)) -> [f32; PART] {
    let mut out = [0.0; PART];
    for (out, lane) in out.iter_mut().zip(part * PART..count) {
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

/// The largest integer of so many bits.
pub const fn mask(bits: u8) -> u8 {
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
        let back = [0, 1, 2, 3].map(|part| unpack::<BITS>(&bytes, (codes.len(), part)));
        let back = back.as_flattened();
        let rest = vec![0; GROUP - codes.len()];
        let codes = codes.iter().chain(&rest);
        assert!(back.iter().zip(codes).all(|(x, code)| *x as u8 == *code));
    }

    proptest! {
        #[test]
        fn integers_come_back(codes in prop::collection::vec(any::<u8>(), 1..=64)) {
            check::<2>(&codes);
            check::<3>(&codes);
            check::<4>(&codes);
            check::<8>(&codes);
        }
    }

    #[test]
    fn symmetric_grids_keep_the_length_along_a_vector() {
        let mut random = compress_numerics::Random(5);
        let x: Vec<f32> = (0..64).map(|_| random.normal()).collect();
        for bits in [2, 3, 4, 8] {
            let grid = Grid::symmetric(x.iter(), bits);
            let scale = grid.unbiased(x.iter(), bits).to_f32();
            let half = f32::from(mask(bits)) / 2.0;
            let back = |x: f32| scale * (f32::from(grid.code(x, bits)) - half);
            let (own, both): (f32, f32) = x.iter().fold((0.0, 0.0), |(own, both), &x| {
                (own + x * x, both + x * back(x))
            });
            assert!(
                (both / own - 1.0).abs() < 2e-3,
                "{bits} bits: {}",
                both / own
            );
        }
        assert_eq!(
            Grid::symmetric([0.0, 0.0].iter(), 2).unbiased([0.0, 0.0].iter(), 2),
            f16::ZERO
        );
    }

    #[test]
    fn equal_numbers_are_exact() {
        let grid = Grid::asymmetric([1.5, 1.5].iter(), 4);
        assert_eq!(
            (grid.code(1.5, 4), grid.scale, grid.least.to_f32()),
            (0, f16::ZERO, 1.5)
        );
    }
}
