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
//! step is near the best for a normal distribution (Max, "Quantizing for minimum distortion", 1960), and cuts off what lies
//! far out. With the least squared error vectors would get shorter, all of them, and so would an average of values over
//! many tokens; hence s is stored such that what is stored has the same inner product with what was given as that with
//! itself, as in EDEN (arXiv 2108.08842).

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::f16;

/// Numbers that share m and s.
pub const GROUP: usize = 64;

/// As many of them are in registers at a time.
pub const PART: usize = 16;

/// A group as integers, with s and m, which are finite for numbers that 16 bits hold.
#[derive(Clone, Debug)]
pub struct Group {
    pub codes: Vec<u8>,
    pub scale: f16,
    pub least: f16,
}

/// Steps that are tried for a symmetric grid, as parts of the best one for normal numbers.
const STEPS: [f32; 5] = [0.8, 0.9, 1.0, 1.1, 1.2];

impl Group {
    /// On the asymmetric grid, from the least number to the largest.
    pub fn asymmetric(numbers: &[f32], bits: u8) -> Self {
        let range = (f32::INFINITY, f32::NEG_INFINITY);
        let (least, most) = numbers
            .iter()
            .fold(range, |(least, most), &x| (least.min(x), most.max(x)));
        // From the m that is stored, so that its rounding is in the integers.
        let least = f16::from_f32(least);
        let scale = (most - least.to_f32()) / f32::from(mask(bits));
        let scale = f16::from_f32(scale.max(0.0));
        Self {
            codes: codes(numbers, bits, (scale.to_f32(), least.to_f32())),
            scale,
            least,
        }
    }

    /// On the symmetric grid whose direction is nearest to that of the numbers.
    pub fn symmetric(numbers: &[f32], bits: u8) -> Self {
        let half = f32::from(mask(bits)) / 2.0;
        let squares: f32 = numbers.iter().map(|x| x * x).sum();
        let deviation = (squares / numbers.len().max(1) as f32).sqrt();
        // Max's table. Of 8 bits there are enough to cut nothing off.
        let step = match bits {
            2 => 0.9957 * deviation,
            3 => 0.5860 * deviation,
            4 => 0.3352 * deviation,
            _ => numbers.iter().fold(0.0, |most: f32, x| most.max(x.abs())) / half,
        };
        let mut best = (f32::NEG_INFINITY, Self::zeros(numbers.len()));
        for part in STEPS {
            let step = part * step;
            let codes = codes(numbers, bits, (step, -half * step));
            let (mut product, mut length) = (0.0, 0.0);
            for (x, code) in numbers.iter().zip(&codes) {
                let code = f32::from(*code) - half;
                product += x * code;
                length += code * code;
            }
            // The squared cosine between them, up to the length of the numbers. All zeros have no direction.
            let cosine = product * product / length;
            if product > 0.0 && cosine > best.0 {
                let scale = f16::from_f32(squares / product);
                let least = f16::from_f32(-half * scale.to_f32());
                best = (
                    cosine,
                    Self {
                        codes,
                        scale,
                        least,
                    },
                );
            }
        }
        best.1
    }

    fn zeros(count: usize) -> Self {
        Self {
            codes: vec![0; count],
            scale: f16::ZERO,
            least: f16::ZERO,
        }
    }
}

/// The integers next to numbers. A group of equal numbers has the scale 0: NaN, or an infinity, becomes 0 or the largest.
fn codes(numbers: &[f32], bits: u8, (scale, least): (f32, f32)) -> Vec<u8> {
    let most = f32::from(mask(bits));
    let code = |x: &f32| ((x - least) / scale).round().clamp(0.0, most) as u8;
    numbers.iter().map(code).collect()
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
    let mut codes = [0; PART];
    if count == GROUP {
        match BITS {
            2 => add_plane::<2, 16>(bytes, (GROUP / 4, part), 0, &mut codes),
            3 => {
                let (low, high) = bytes.split_at(GROUP / 4);
                add_plane::<2, 16>(low, (GROUP / 4, part), 0, &mut codes);
                add_plane::<1, 8>(high, (GROUP / 8, part), 2, &mut codes);
            }
            4 => add_plane::<4, 16>(bytes, (GROUP / 2, part), 0, &mut codes),
            _ => add_plane::<8, 16>(bytes, (GROUP, part), 0, &mut codes),
        }
    } else if BITS != 3 && count.is_multiple_of(PART) {
        // Heads of 48 or 80 channels: the bytes of such a plane are a multiple of 4.
        add_plane::<BITS, 4>(bytes, (bytes.len(), part), 0, &mut codes);
    } else {
        return unpack_some(bytes, BITS, (count, part));
    }
    let mut out = [0.0; PART];
    for (out, code) in out.iter_mut().zip(codes) {
        // Signed, which is what the vector instructions convert.
        *out = code.cast_signed() as f32;
    }
    out
}

/// Adds the bits of a plane of so many bytes to 16 of a group's integers, in their place, `COUNT` neighbours in as many bytes
/// at a time.
#[inline(always)]
fn add_plane<const BITS: u8, const COUNT: usize>(
    bytes: &[u8],
    (plane, part): (usize, usize),
    place: usize,
    codes: &mut [u32; PART],
) {
    for (index, codes) in codes.as_chunks_mut::<COUNT>().0.iter_mut().enumerate() {
        let lane = part * PART + index * COUNT;
        let shift = lane / plane * usize::from(BITS);
        for (code, byte) in codes.iter_mut().zip(&bytes[lane % plane..][..COUNT]) {
            *code |= ((u32::from(*byte) >> shift) & u32::from(mask(BITS))) << place;
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
    use compress_numerics::Random;
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

    fn decoded(group: &Group) -> Vec<f32> {
        let (scale, least) = (group.scale.to_f32(), group.least.to_f32());
        group
            .codes
            .iter()
            .map(|code| least + scale * f32::from(*code))
            .collect()
    }

    #[test]
    fn symmetric_grids_keep_the_length_along_a_vector_and_are_near_it() {
        let mut random = Random(5);
        let normal: Vec<f32> = (0..64).map(|_| random.normal()).collect();
        let mut outlier = normal.clone();
        outlier[7] = 5.0;
        // The most that 300 draws of such numbers lost, by an independent program.
        for (bits, least) in [
            (2, [0.26, 0.43]),
            (3, [0.085, 0.17]),
            (4, [0.022, 0.085]),
            (8, [1.1e-4, 1.5e-4]),
        ] {
            for (x, least) in [&normal, &outlier].into_iter().zip(least) {
                let back = decoded(&Group::symmetric(x, bits));
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                let apart: Vec<f32> = x.iter().zip(&back).map(|(x, back)| x - back).collect();
                let (along, error) = (dot(x, &back) / dot(x, x), dot(&apart, &apart) / dot(x, x));
                assert!((along - 1.0).abs() < 1e-3, "{bits} bits: {along}");
                assert!(error < least, "{bits} bits: {error}");
            }
        }
        assert_eq!(decoded(&Group::symmetric(&[0.0; 3], 2)), [0.0; 3]);
    }

    #[test]
    fn equal_numbers_are_exact() {
        for bits in [2, 3, 4, 8] {
            assert_eq!(decoded(&Group::asymmetric(&[1.5; 2], bits)), [1.5; 2]);
        }
    }
}
