//! One packed row times a few numbers: what decoding spends its time on.
//!
//! ```text
//! y = Σ_groups s · Σ (u − 2^(bits−1) − z) · x
//! ```
//!
//! Codes u become floats in registers, three instructions for eight of them: mask, convert, multiply
//! and add. A row is read from its first word to its last and is not interleaved with others: the
//! processor then fetches ahead, which it does not for several short rows at once.

use super::{
    lanes::{LANES, Lanes, Plain},
    spread::{Block, Places, Spread},
};

/// A row of a weight.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its codes.
    pub words: &'a [u32],
    /// The scale of each group.
    pub scales: &'a [f32],
    /// The zero point of each group; empty where all are 0.
    pub zeros: &'a [i8],
}

/// The products of some rows and x, by the widest instructions that the processor has.
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

#[inline(always)]
fn each<'a, L: Lanes, const BITS: usize>(
    lanes: L,
    out: &mut [f32],
    x: &Spread,
    row: impl Fn(usize) -> Row<'a>,
) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = product::<L, BITS>(lanes, row(index), x);
    }
}

/// The product of a row and x.
#[inline(always)]
pub fn product<L: Lanes, const BITS: usize>(lanes: L, row: Row<'_>, x: &Spread) -> f32 {
    let per_word = const { Places::of(BITS).per_word };
    let mut total = lanes.floats([0.0; LANES]);
    for (block, numbers) in x.blocks.iter().zip(x.numbers.chunks_exact(per_word)) {
        let words = Words::<L, BITS>::load(lanes, row.words, block.at);
        // Four sums side by side: one alone would wait for itself.
        let mut sums = [lanes.floats([0.0; LANES]); 4];
        sums[0] = lanes.floats(start::<BITS>(row.zeros, block));
        for k in 0..per_word {
            let x = lanes.floats(numbers[k]);
            sums[k % 4] = lanes.multiply_add(words.codes(lanes, k), x, sums[k % 4]);
        }
        let [a, b, c, d] = sums;
        let sum = lanes.add(lanes.add(a, b), lanes.add(c, d));
        let scales = lanes.floats(by_lane(row.scales, block, x.shared));
        total = lanes.multiply_add(scales, sum, total);
    }
    let total = lanes.array(total);
    let halves: [f32; 4] = std::array::from_fn(|i| total[i] + total[i + 4]);
    (halves[0] + halves[2]) + (halves[1] + halves[3])
}

/// Where the sums of a block start: at what the codes are too large by, times Σ x.
#[inline(always)]
fn start<const BITS: usize>(zeros: &[i8], block: &Block) -> [f32; LANES] {
    if zeros.is_empty() {
        return block.start;
    }
    let offset = (1 << (BITS - 1)) as f32;
    std::array::from_fn(|lane| {
        let zero = f32::from(zeros[usize::from(block.group[lane])]);
        block.start[lane] * (1.0 + zero / offset)
    })
}

/// The scale of each lane, read as rarely as the groups allow.
#[inline(always)]
fn by_lane(scales: &[f32], block: &Block, shared: usize) -> [f32; LANES] {
    let scale = |lane: usize| scales[usize::from(block.group[lane])];
    match shared {
        8 => [scale(0); LANES],
        4 => {
            let (a, b) = (scale(0), scale(4));
            [a, a, a, a, b, b, b, b]
        }
        2 => {
            let (a, b, c, d) = (scale(0), scale(2), scale(4), scale(6));
            [a, a, b, b, c, c, d, d]
        }
        _ => std::array::from_fn(scale),
    }
}

/// Eight words of a row, ready to give their codes.
struct Words<L: Lanes, const BITS: usize> {
    /// Codes of 3 bits are moved to the lowest bits, whatever their word's place in the pattern.
    whole: L::Words,
    /// Of 3 bits: the code that begins in one word and ends in the next.
    across: L::Words,
}

impl<L: Lanes, const BITS: usize> Words<L, BITS> {
    #[inline(always)]
    fn load(lanes: L, row: &[u32], at: usize) -> Self {
        let whole = lanes.words(eight(&row[at..]));
        if BITS != 3 {
            return Self {
                whole,
                across: whole,
            };
        }
        // Words of 3-bit codes begin with the last 0, 2 or 1 bits of a code; 30, 30 or 30 bits of
        // whole codes follow, and 2, 1 or 0 bits of the code that goes on in the next word.
        let (begun, end) = ([0, 1, 2], [2, 1, 0]);
        let place = |lane| (at + lane) % 3;
        let next = lanes.words(eight(&row[at + 1..]));
        let low = lanes.right(whole, std::array::from_fn(|lane| 30 + begun[place(lane)]));
        let high = lanes.left(next, std::array::from_fn(|lane| end[place(lane)]));
        Self {
            whole: lanes.right(whole, std::array::from_fn(|lane| begun[place(lane)])),
            across: lanes.or(low, high),
        }
    }

    /// The k-th code of each word, times a power of two that x is divided by.
    #[inline(always)]
    fn codes(&self, lanes: L, k: usize) -> L::Floats {
        let (mask, bit) = ((1 << BITS) - 1, BITS * k);
        lanes.convert(if bit + BITS < 32 {
            lanes.and(self.whole, mask << bit)
        } else if bit + BITS == 32 {
            lanes.right(self.whole, [bit as u32; LANES])
        } else {
            lanes.and(self.across, mask)
        })
    }
}

/// The first eight words; zeros where the row is over.
#[inline(always)]
fn eight(row: &[u32]) -> [u32; LANES] {
    if let Some(words) = row.first_chunk() {
        return *words;
    }
    let mut words = [0; LANES];
    words[..row.len()].copy_from_slice(row);
    words
}
