//! Rows of numbers as small integers: asymmetric rounding of groups of 32 numbers.
//!
//! ```text
//! x ≈ m + s c,   m = min x,   s = (max x − min x) / (2ᵇ − 1),   c = round((x − m) / s)
//! ```
//!
//! m and s are 16-bit floats: b + 1 bits per number in all. A group is 32 tokens of one channel, or 32 channels of one
//! token.

use compress_numerics::{f16, kernels::vectorized};

/// Numbers that share m and s.
pub const GROUP: usize = 32;

/// Rows of integers, tokens × width.
#[derive(Clone, Debug)]
pub struct Integers {
    bits: u8,
    width: usize,
    /// Whether groups are tokens of one channel; if not, channels of one token.
    by_channel: bool,
    tokens: usize,
    /// The integers, row after row; see [`pack`].
    codes: Vec<u8>,
    /// s and m of each group: by channel, those of all channels for each 32 tokens; by token, row after row.
    grids: Vec<[f16; 2]>,
}

impl Integers {
    /// No rows yet, with room for as many tokens.
    pub fn new((bits, by_channel): (u8, bool), width: usize, tokens: usize) -> Self {
        let groups = if by_channel {
            tokens.div_ceil(GROUP) * width
        } else {
            tokens * width.div_ceil(GROUP)
        };
        Self {
            bits,
            width,
            by_channel,
            tokens: 0,
            codes: Vec::with_capacity(tokens * row_bytes(bits, width)),
            grids: Vec::with_capacity(groups),
        }
    }

    /// Rounds rows, and appends them. By channel they must begin a group: all rows before are whole groups.
    pub fn extend(&mut self, rows: &[f32]) {
        for rows in rows.chunks(GROUP * self.width.max(1)) {
            let grids = if self.by_channel {
                self.grids_by_channel(rows)
            } else {
                self.grids_by_token(rows)
            };
            for (token, row) in rows.chunks_exact(self.width.max(1)).enumerate() {
                let most = f32::from(u8::MAX >> (8 - self.bits));
                let code = |(channel, &x): (usize, &f32)| {
                    let [scale, least] = grids[self.grid(token, channel)].map(f16::to_f32);
                    // A group of equal numbers has the scale 0: NaN, or an infinity, becomes 0 or the largest.
                    ((x - least) / scale).round().clamp(0.0, most) as u8
                };
                let codes: Vec<u8> = row.iter().enumerate().map(code).collect();
                pack(&codes, self.bits, &mut self.codes);
                self.tokens += 1;
            }
            self.grids.extend(grids);
        }
    }

    /// The rows, as they are multiplied, into tokens · width numbers.
    pub fn decode(&self, out: &mut [f32]) {
        vectorized(
            #[inline(always)]
            || self.decode_all(out),
        );
    }

    #[expect(
        clippy::inline_always,
        reason = "vector instructions are allowed in the function that it is inlined into"
    )]
    #[inline(always)]
    fn decode_all(&self, out: &mut [f32]) {
        let bytes = row_bytes(self.bits, self.width);
        let mut codes = vec![0; self.width];
        let rows = out.chunks_exact_mut(self.width.max(1));
        let coded = self.codes.chunks_exact(bytes.max(1));
        // By channel: s and m as floats, once for 32 rows.
        let mut grids: Vec<[f32; 2]> = Vec::new();
        for (token, (row, coded)) in rows.zip(coded).enumerate() {
            unpack(coded, self.bits, &mut codes);
            if self.by_channel {
                if token % GROUP == 0 {
                    let first = self.grid(token, 0);
                    grids.clear();
                    grids.extend(floats(&self.grids[first..first + self.width]));
                }
                for ((x, code), [scale, least]) in row.iter_mut().zip(&codes).zip(&grids) {
                    *x = least + scale * f32::from(*code);
                }
            } else {
                let first = self.grid(token, 0);
                let groups = row.chunks_mut(GROUP).zip(codes.chunks(GROUP));
                for ((row, codes), [scale, least]) in groups.zip(floats(&self.grids[first..])) {
                    for (x, code) in row.iter_mut().zip(codes) {
                        *x = least + scale * f32::from(*code);
                    }
                }
            }
        }
    }

    /// Tokens in it.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// The index of a number's group.
    const fn grid(&self, token: usize, channel: usize) -> usize {
        if self.by_channel {
            token / GROUP * self.width + channel
        } else {
            token * self.width.div_ceil(GROUP) + channel / GROUP
        }
    }

    fn grids_by_channel(&self, rows: &[f32]) -> Vec<[f16; 2]> {
        let column = |channel: usize| rows.iter().skip(channel).step_by(self.width).copied();
        (0..self.width)
            .map(|channel| grid(column(channel), self.bits))
            .collect()
    }

    fn grids_by_token(&self, rows: &[f32]) -> Vec<[f16; 2]> {
        let rows = rows.chunks_exact(self.width.max(1));
        rows.flat_map(|row| row.chunks(GROUP))
            .map(|group| grid(group.iter().copied(), self.bits))
            .collect()
    }
}

/// s and m of a group.
fn grid(numbers: impl Iterator<Item = f32>, bits: u8) -> [f16; 2] {
    let (least, most) = numbers.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), x| {
        (least.min(x), most.max(x))
    });
    // From the m that is stored, so that its rounding is in the integers.
    let least = f16::from_f32(least);
    let scale = (most - least.to_f32()) / f32::from(u8::MAX >> (8 - bits));
    [f16::from_f32(scale.max(0.0)), least]
}

fn floats(grids: &[[f16; 2]]) -> impl Iterator<Item = [f32; 2]> {
    grids.iter().map(|grid| grid.map(f16::to_f32))
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

/// Bytes of a row of integers.
fn row_bytes(bits: u8, width: usize) -> usize {
    let bytes = |(_, bits): &(u8, u8)| width.div_ceil(usize::from(8 / bits));
    planes(bits).iter().map(bytes).sum()
}

/// Appends a row of integers. Of a plane with p bits each byte holds 8/p integers that are as far apart as the plane has
/// bytes: a vector of bytes is then unpacked to neighbours.
fn pack(codes: &[u8], bits: u8, out: &mut Vec<u8>) {
    for &(place, bits) in planes(bits) {
        let bytes = codes.len().div_ceil(usize::from(8 / bits));
        let first = out.len();
        out.resize(first + bytes, 0);
        let plane = &mut out[first..];
        for (code, part) in codes.chunks(bytes.max(1)).zip(0..) {
            for (byte, code) in plane.iter_mut().zip(code) {
                *byte |= (code >> place & mask(bits)) << (part * bits);
            }
        }
    }
}

/// The integers of a row.
#[expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that it is inlined into"
)]
#[inline(always)]
fn unpack(mut bytes: &[u8], bits: u8, codes: &mut [u8]) {
    codes.fill(0);
    for &(place, bits) in planes(bits) {
        let count = codes.len().div_ceil(usize::from(8 / bits));
        let (plane, rest) = bytes.split_at(count);
        bytes = rest;
        for (codes, part) in codes.chunks_mut(count.max(1)).zip(0..) {
            for (code, byte) in codes.iter_mut().zip(plane) {
                *code |= (byte >> (part * bits) & mask(bits)) << place;
            }
        }
    }
}

const fn mask(bits: u8) -> u8 {
    u8::MAX >> (8 - bits)
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(bits in prop::sample::select(vec![2_u8, 3, 4, 8]), codes in prop::collection::vec(any::<u8>(), 1..90)) {
            let codes: Vec<u8> = codes.iter().map(|code| code & mask(bits)).collect();
            let mut bytes = Vec::new();
            pack(&codes, bits, &mut bytes);
            prop_assert_eq!(bytes.len(), row_bytes(bits, codes.len()));
            let mut back = vec![9; codes.len()];
            unpack(&bytes, bits, &mut back);
            prop_assert_eq!(back, codes);
        }

        #[test]
        fn no_number_is_off_by_more_than_half_a_step(
            bits in prop::sample::select(vec![2_u8, 3, 4, 8]),
            by_channel: bool,
            (tokens, width) in (1_usize..100, 1_usize..70),
        ) {
            let mut random = Random(3);
            let rows: Vec<f32> = (0..tokens * width).map(|_| random.normal()).collect();
            let mut integers = Integers::new((bits, by_channel), width, tokens);
            integers.extend(&rows);
            let mut back = vec![0.0; rows.len()];
            integers.decode(&mut back);
            prop_assert_eq!(integers.tokens(), tokens);
            // Normal numbers are within 5 of 0: a step is at most 10 / (2ᵇ − 1); s and m have 11 bits.
            let step = 10.0 / f32::from(mask(bits));
            for (x, back) in rows.iter().zip(&back) {
                prop_assert!((x - back).abs() < step / 2.0 + 0.01);
            }
        }
    }

    #[test]
    fn equal_numbers_are_exact_but_for_their_format() {
        let mut integers = Integers::new((4, true), 3, 2);
        integers.extend(&[1.5, -2.0, 0.0, 1.5, -2.0, 0.0]);
        let mut back = [9.0; 6];
        integers.decode(&mut back);
        assert!(back.iter().eq(&[1.5, -2.0, 0.0, 1.5, -2.0, 0.0]));
    }
}
