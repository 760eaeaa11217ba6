//! Rows of numbers as small integers: asymmetric rounding of groups of 32 numbers.
//!
//! ```text
//! x ≈ m + s c,   m = min x,   s = (max x − min x) / (2ᵇ − 1),   c = round((x − m) / s)
//! ```
//!
//! m and s are 16-bit floats: b + 1 bits per number in all. A group is 32 tokens of one channel, or 32 channels of one
//! token.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::{HalfSlice as _, f16, kernels::vectorized};

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
    /// s and m: by channel, for each 32 tokens the s of all channels and then their m; by token, s and m of each group, row
    /// after row.
    grids: Vec<f16>,
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
            grids: Vec::with_capacity(2 * groups),
        }
    }

    /// Rounds rows, and appends them. By channel they must begin a group: all rows before are whole groups.
    pub fn extend(&mut self, rows: &[f32]) {
        let most = f32::from(mask(self.bits));
        // A group of equal numbers has the scale 0: NaN, or an infinity, becomes 0 or the largest.
        let code = |x: f32, [scale, least]: [f16; 2]| {
            ((x - least.to_f32()) / scale.to_f32())
                .round()
                .clamp(0.0, most) as u8
        };
        for rows in rows.chunks(GROUP * self.width.max(1)) {
            let columns = self.by_channel.then(|| self.grids_of_columns(rows));
            for row in rows.chunks_exact(self.width.max(1)) {
                for (index, group) in row.chunks(GROUP).enumerate() {
                    let own = grid(group.iter().copied(), self.bits);
                    let grid = |channel: usize| {
                        columns
                            .as_ref()
                            .map_or(own, |all| all[index * GROUP + channel])
                    };
                    let codes = group.iter().enumerate();
                    let codes: Vec<u8> = codes.map(|(i, &x)| code(x, grid(i))).collect();
                    pack(&codes, self.bits, &mut self.codes);
                    if columns.is_none() {
                        self.grids.extend(own);
                    }
                }
                self.tokens += 1;
            }
            for place in [0, 1] {
                let columns = columns.iter().flatten();
                self.grids.extend(columns.map(|grid| grid[place]));
            }
        }
    }

    /// s and m of each channel over some rows.
    fn grids_of_columns(&self, rows: &[f32]) -> Vec<[f16; 2]> {
        let column = |channel: usize| rows.iter().skip(channel).step_by(self.width).copied();
        let channels = 0..self.width;
        channels
            .map(|channel| grid(column(channel), self.bits))
            .collect()
    }

    /// The rows, as they are multiplied, into tokens · width numbers.
    pub fn decode(&self, out: &mut [f32]) {
        let mut grids = vec![0.0; self.grids.len()];
        self.grids.convert_to_f32_slice(&mut grids);
        vectorized(
            #[inline(always)]
            move || {
                if self.by_channel {
                    self.decode_by_channel(&grids, out);
                } else {
                    self.decode_by_token(&grids, out);
                }
            },
        );
    }

    #[inline(always)]
    fn decode_by_channel(&self, grids: &[f32], out: &mut [f32]) {
        let each = row_bytes(self.bits, GROUP);
        for (token, (row, bytes)) in self.rows(out).enumerate() {
            let grids = &grids[token / GROUP * 2 * self.width..][..2 * self.width];
            let (scales, leasts) = grids.split_at(self.width);
            let (scales, leasts) = (scales.as_chunks::<GROUP>(), leasts.as_chunks::<GROUP>());
            let (whole, rest) = row.as_chunks_mut::<GROUP>();
            let (groups, bytes) = bytes.split_at(whole.len() * each);
            let groups = groups.chunks_exact(each).zip(scales.0.iter().zip(leasts.0));
            for (out, (bytes, (scale, least))) in whole.iter_mut().zip(groups) {
                decode_group(bytes, self.bits, |i| (scale[i], least[i]), out);
            }
            let grid = |i: usize| {
                let of = |all: &[f32]| all.get(i).copied().unwrap_or(0.0);
                (of(scales.1), of(leasts.1))
            };
            decode_rest(bytes, self.bits, grid, rest);
        }
    }

    #[inline(always)]
    fn decode_by_token(&self, grids: &[f32], out: &mut [f32]) {
        let each = row_bytes(self.bits, GROUP);
        let per_row = self.width.div_ceil(GROUP);
        let grids = grids.as_chunks::<2>().0.chunks_exact(per_row.max(1));
        for ((row, bytes), grids) in self.rows(out).zip(grids) {
            let (whole, rest) = row.as_chunks_mut::<GROUP>();
            let (groups, bytes) = bytes.split_at(whole.len() * each);
            let groups = groups.chunks_exact(each).zip(grids);
            for (out, (bytes, [scale, least])) in whole.iter_mut().zip(groups) {
                decode_group(bytes, self.bits, |_| (*scale, *least), out);
            }
            let [scale, least] = grids.last().copied().unwrap_or_default();
            decode_rest(bytes, self.bits, |_| (scale, least), rest);
        }
    }

    /// The rows of `out`, each with its bytes.
    #[inline(always)]
    fn rows<'a>(&'a self, out: &'a mut [f32]) -> impl Iterator<Item = (&'a mut [f32], &'a [u8])> {
        let bytes = row_bytes(self.bits, self.width).max(1);
        let rows = out.chunks_exact_mut(self.width.max(1));
        rows.zip(self.codes.chunks_exact(bytes))
    }

    /// Tokens in it.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }
}

/// s and m of a group.
fn grid(numbers: impl Iterator<Item = f32>, bits: u8) -> [f16; 2] {
    let (least, most) = numbers.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), x| {
        (least.min(x), most.max(x))
    });
    // From the m that is stored, so that its rounding is in the integers.
    let least = f16::from_f32(least);
    let scale = (most - least.to_f32()) / f32::from(mask(bits));
    [f16::from_f32(scale.max(0.0)), least]
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

/// Bytes of a row of integers: those of its groups of 32, and of what is left.
fn row_bytes(bits: u8, width: usize) -> usize {
    width / GROUP * group_bytes(bits, GROUP) + group_bytes(bits, width % GROUP)
}

/// Bytes of a group of integers.
fn group_bytes(bits: u8, count: usize) -> usize {
    let plane = |(_, bits): &(u8, u8)| (count * usize::from(*bits)).div_ceil(8);
    planes(bits).iter().map(plane).sum()
}

/// Appends a group of integers, at most 32, plane after plane, low bits first.
fn pack(codes: &[u8], bits: u8, out: &mut Vec<u8>) {
    for &(place, bits) in planes(bits) {
        for codes in codes.chunks(usize::from(8 / bits)) {
            let places = (0..).step_by(usize::from(bits));
            let part = |(code, at): (&u8, u8)| (code >> place & mask(bits)) << at;
            out.push(codes.iter().zip(places).map(part).sum());
        }
    }
}

/// The numbers of a whole group; s and m of each are given.
#[inline(always)]
fn decode_group(
    bytes: &[u8],
    bits: u8,
    grid: impl Fn(usize) -> (f32, f32),
    out: &mut [f32; GROUP],
) {
    match bits {
        2 => decode_words::<2, 16>(bytes, grid, out),
        4 => decode_words::<4, 8>(bytes, grid, out),
        8 => decode_words::<8, 4>(bytes, grid, out),
        _ => {
            let (low, high) = bytes.split_at(GROUP / 4);
            let no_grid = |_| (1.0, 0.0);
            let mut halves = [0.0; GROUP];
            decode_words::<2, 16>(low, no_grid, out);
            decode_words::<1, 32>(high, no_grid, &mut halves);
            for (i, (x, half)) in out.iter_mut().zip(halves).enumerate() {
                let (scale, least) = grid(i);
                *x = least + scale * (*x + 4.0 * half);
            }
        }
    }
}

/// The numbers of the group that is left of a row, fewer than 32: as those of one that is filled up.
#[inline(always)]
fn decode_rest(bytes: &[u8], bits: u8, grid: impl Fn(usize) -> (f32, f32), out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let (mut filled, mut numbers) = ([0; GROUP], [0.0; GROUP]);
    let mut to = filled.as_mut_slice();
    let mut from = bytes;
    // Each plane by itself: the second begins behind the whole first.
    for &(_, bits) in planes(bits) {
        let bits = usize::from(bits);
        let (plane, rest) = from.split_at((out.len() * bits).div_ceil(8));
        let (place, others) = to.split_at_mut(GROUP * bits / 8);
        place[..plane.len()].copy_from_slice(plane);
        (from, to) = (rest, others);
    }
    decode_group(&filled, bits, grid, &mut numbers);
    out.copy_from_slice(&numbers[..out.len()]);
}

/// The same of a group in one plane, a word of 32 bits at a time: shifts by a different count in each lane are one vector
/// instruction, and so is their conversion.
#[inline(always)]
fn decode_words<const BITS: usize, const COUNT: usize>(
    bytes: &[u8],
    grid: impl Fn(usize) -> (f32, f32),
    out: &mut [f32; GROUP],
) {
    let words = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .copied()
        .map(u32::from_le_bytes);
    let groups = out.as_chunks_mut::<COUNT>().0.iter_mut();
    for (index, (out, word)) in groups.zip(words).enumerate() {
        *out = std::array::from_fn(|k| {
            let code = (word >> (BITS * k)) & ((1 << BITS) - 1);
            let (scale, least) = grid(index * COUNT + k);
            // Signed, which is what the vector instructions convert.
            least + scale * code.cast_signed() as f32
        });
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
        fn integers_come_back(bits in prop::sample::select(vec![2_u8, 3, 4, 8]), codes in prop::collection::vec(any::<u8>(), 1..=32)) {
            let codes: Vec<u8> = codes.iter().map(|code| code & mask(bits)).collect();
            let mut bytes = Vec::new();
            pack(&codes, bits, &mut bytes);
            prop_assert_eq!(bytes.len(), group_bytes(bits, codes.len()));
            let mut back = vec![9.0; codes.len()];
            decode_rest(&bytes, bits, |_| (1.0, 0.0), &mut back);
            prop_assert_eq!(back.into_iter().map(|x| x as u8).collect::<Vec<_>>(), codes);
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
