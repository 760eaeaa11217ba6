//! The dot product of a packed row and x: the inner loop of decoding.
//!
//! ```text
//! y = Σ_groups s · Σ (u − 2^(bits−1) − z) · x
//! ```
//!
//! Codes u become floats in registers, three instructions for eight of them: mask, convert, fused multiply-add.
//! A row is read from its first word to its last and is not interleaved with its neighbours:
//! two rows at once took up to twice as long from memory.
//!
//! Σ u · x runs over all codes of a block; offset and zero point are in the start of the sum, and the scale is applied
//! to the sum of each lane. So a code costs no more than its three instructions.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use super::{
    lanes::{LANES, Lanes, Plain},
    spread::{Block, Places, Spread},
};

/// One row of a packed weight.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its packed codes.
    pub words: &'a [u32],
    /// The scale of each group.
    pub scales: &'a [f32],
    /// The zero point of each group; empty where all are 0.
    pub zeros: &'a [i8],
}

/// The dot products of some rows with x, with the widest instructions that the processor has.
pub fn products<'a, const BITS: usize>(
    out: &mut [f32],
    x: &Spread,
    row: impl Fn(usize) -> Row<'a>,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = pulp::x86::V3::try_new() {
        return lanes.vectorize(
            #[inline(always)]
            || each::<_, BITS>(lanes, out, x, row),
        );
    }
    each::<_, BITS>(Plain, out, x, row);
}

/// Chooses the kernel once for all rows: lanes per scale, and with or without zero points, as constants.
#[inline(always)]
pub fn each<'a, L: Lanes, const BITS: usize>(
    lanes: L,
    out: &mut [f32],
    x: &Spread,
    row: impl Fn(usize) -> Row<'a>,
) {
    // All rows of a weight have zero points, or none has.
    let symmetric = out.is_empty() || row(0).zeros.is_empty();
    match (x.shared, symmetric) {
        (8, true) => all::<L, BITS, 8, true>(lanes, out, x, row),
        (8, false) => all::<L, BITS, 8, false>(lanes, out, x, row),
        (4, true) => all::<L, BITS, 4, true>(lanes, out, x, row),
        (4, false) => all::<L, BITS, 4, false>(lanes, out, x, row),
        (_, true) => all::<L, BITS, 1, true>(lanes, out, x, row),
        (_, false) => all::<L, BITS, 1, false>(lanes, out, x, row),
    }
}

#[inline(always)]
fn all<'a, L: Lanes, const BITS: usize, const SHARED: usize, const SYMMETRIC: bool>(
    lanes: L,
    out: &mut [f32],
    x: &Spread,
    row: impl Fn(usize) -> Row<'a>,
) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = product::<L, BITS, SHARED, SYMMETRIC>(lanes, row(index), x);
    }
}

/// The dot product of a row and x. Scales multiply the sum of a block's lane, so that codes need not be scaled.
#[inline(always)]
fn product<L: Lanes, const BITS: usize, const SHARED: usize, const SYMMETRIC: bool>(
    lanes: L,
    row: Row<'_>,
    x: &Spread,
) -> f32 {
    let (per_word, per_part) = const { (Places::of(BITS).per_word, Places::of(BITS).per_part) };
    let mut total = lanes.floats([0.0; LANES]);
    for (block, numbers) in x.blocks.iter().zip(x.numbers.chunks_exact(per_word)) {
        // One load per block; its codes are taken from registers.
        let words = Words::<L, BITS>::load(lanes, row.words, block.at);
        // Four sums side by side, since each fused multiply-add waits for the one before it in the same sum.
        let mut sums = [lanes.floats([0.0; LANES]); 4];
        sums[0] = lanes.floats(start::<BITS, SYMMETRIC>(row.zeros, block));
        for (part, numbers) in numbers.chunks_exact(per_part).enumerate() {
            let words = words.part(lanes, part);
            for k in 0..per_part {
                let x = lanes.floats(numbers[k]);
                sums[k % 4] = lanes.multiply_add(words.codes(lanes, k), x, sums[k % 4]);
            }
        }
        let [a, b, c, d] = sums;
        let sum = lanes.add(lanes.add(a, b), lanes.add(c, d));
        let scales = lanes.floats(by_lane::<SHARED>(row.scales, block));
        total = lanes.multiply_add(scales, sum, total);
    }
    let total = lanes.array(total);
    let halves: [f32; 4] = std::array::from_fn(|i| total[i] + total[i + 4]);
    (halves[0] + halves[2]) + (halves[1] + halves[3])
}

/// The start of a block's sums: −(2^(bits − 1) + zero) · Σ x per lane, so that offset and zero point cost nothing per
/// code.
#[inline(always)]
fn start<const BITS: usize, const SYMMETRIC: bool>(zeros: &[i8], block: &Block) -> [f32; LANES] {
    if SYMMETRIC {
        return block.start;
    }
    let offset = (1 << (BITS - 1)) as f32;
    std::array::from_fn(|lane| {
        let zero = f32::from(zeros[usize::from(block.group[lane])]);
        block.start[lane] * (1.0 + zero / offset)
    })
}

/// The scale of each lane, where `SHARED` neighbours have the same.
#[inline(always)]
fn by_lane<const SHARED: usize>(scales: &[f32], block: &Block) -> [f32; LANES] {
    let scale = |lane: usize| scales[usize::from(block.group[lane])];
    match SHARED {
        8 => [scale(0); LANES],
        4 => {
            let (a, b) = (scale(0), scale(4));
            [a, a, a, a, b, b, b, b]
        }
        _ => std::array::from_fn(scale),
    }
}

/// Words of 3-bit codes begin, in turn, with the last 0, 1 or 2 bits of a code that begins in the word before; thirty
/// bits of whole codes follow. (32 = 30 + 2 = 1 + 30 + 1 = 2 + 30.)
const BEGUN: [[u32; LANES]; 3] = in_turn([0, 1, 2]);

/// The code that crosses into the next word begins at this bit (32: there is none) …
const LOW: [[u32; LANES]; 3] = in_turn([30, 31, 32]);

/// … and its upper part, at the start of the next word, is moved up by this much.
const HIGH: [[u32; LANES]; 3] = in_turn([2, 1, 0]);

/// A pattern of three for eight lanes, for blocks that begin at its first, second or third word.
const fn in_turn(pattern: [u32; 3]) -> [[u32; LANES]; 3] {
    let mut lanes = [[0; LANES]; 3];
    let mut i = 0;
    while i < 3 * LANES {
        lanes[i % 3][i / 3] = pattern[(i % 3 + i / 3) % 3];
        i += 1;
    }
    lanes
}

/// Eight words of a row, ready to give their codes.
#[derive(Clone, Copy)]
struct Words<L: Lanes, const BITS: usize> {
    /// The words; of 3 bits with their whole codes moved to the lowest bits, wherever the word is in the pattern.
    whole: L::Words,
    /// Of 3 bits: the code that crosses into the next word.
    across: L::Words,
}

impl<L: Lanes, const BITS: usize> Words<L, BITS> {
    #[inline(always)]
    fn load(lanes: L, row: &[u32], at: usize) -> Self {
        let whole = lanes.words(eight(&row[at..]));
        // No code crosses words in the other widths.
        if BITS != 3 {
            return Self {
                whole,
                across: whole,
            };
        }
        // The word after each, for the code that crosses into it; zeros after the row's last.
        let next = lanes.words(eight(&row[at + 1..]));
        let low = lanes.right(whole, LOW[at % 3]);
        let high = lanes.left(next, HIGH[at % 3]);
        Self {
            whole: lanes.right(whole, BEGUN[at % 3]),
            across: lanes.or(low, high),
        }
    }

    /// Shifts the codes of a part to where those of the first part are, so that the same masks serve all parts.
    #[inline(always)]
    fn part(&self, lanes: L, part: usize) -> Self {
        let per_part = const { Places::of(BITS).per_part };
        if per_part == const { Places::of(BITS).per_word } {
            return *self;
        }
        let whole = lanes.right(self.whole, [(part * per_part * BITS) as u32; LANES]);
        Self { whole, ..*self }
    }

    /// The k-th code of each word, times the power of two that [`Spread`] divided x by.
    #[inline(always)]
    fn codes(&self, lanes: L, k: usize) -> L::Floats {
        let (mask, bit) = ((1 << BITS) - 1, BITS * k);
        lanes.convert(match bit + BITS {
            ..32 => lanes.and(self.whole, mask << bit),
            32 => lanes.right(self.whole, [bit as u32; LANES]),
            _ => lanes.and(self.across, mask),
        })
    }
}

/// The first eight words; filled up with zeros at the end of the row.
#[inline(always)]
fn eight(row: &[u32]) -> [u32; LANES] {
    if let Some(words) = row.first_chunk() {
        return *words;
    }
    let mut words = [0; LANES];
    words[..row.len()].copy_from_slice(row);
    words
}
