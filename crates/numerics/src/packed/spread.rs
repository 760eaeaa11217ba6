//! A row of x rearranged to the order in which the codes of packed words are unpacked in registers.
//!
//! Eight words of a row are loaded at a time, one per lane, and their codes taken from the lowest up. The
//! numbers of x that the k-th codes of eight words multiply are brought side by side here, once for all rows of
//! the weight. A code that is masked out of its word without a shift is too large by a power of two;
//! its x is divided by the same power, which is exact.
//!
//! It costs one pass over x per weight format, against m passes of the weight's rows.

use super::{Packed, lanes::LANES};

/// One row of x, rearranged for the weights of one width, group size and number of inputs.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The blocks of eight words, in order; the last one ends with the row, and may overlap the one before.
    pub(super) blocks: Vec<Block>,
    /// For each block and k, the numbers that the k-th codes of its words multiply.
    pub(super) numbers: Vec<[f32; LANES]>,
    /// Neighbouring lanes that always share a scale, so that it can be loaded once: 1, 2, 4 or 8.
    pub(super) shared: usize,
}

/// Most groups of a row: a block numbers them in sixteen bits.
const MOST_GROUPS: usize = 1 << 16;

/// Eight consecutive words of each row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The index of the first in its row.
    pub at: usize,
    /// The group of each word.
    pub group: [u16; LANES],
    /// −2^(bits − 1) · Σ x per lane: codes are stored unsigned, and this takes their offset off the product.
    pub start: [f32; LANES],
}

/// The layout of the codes of one width in their words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Words after which the pattern repeats …
    words: usize,
    /// … and the codes in them.
    codes: usize,
    /// Most codes that begin in one word.
    pub per_word: usize,
    /// Of these, the codes that are masked out before the word is shifted; masks for a few stay in registers.
    pub per_part: usize,
}

impl Places {
    /// The layout for 2, 3, 4 or 8 bits. Three bits: 32 codes in three words, of which 11, 11 and 10 begin in each.
    pub const fn of(bits: usize) -> Self {
        match bits {
            3 => Self {
                words: 3,
                codes: 32,
                per_word: 11,
                per_part: 11,
            },
            2 => Self {
                words: 1,
                codes: 16,
                per_word: 16,
                per_part: 8,
            },
            _ => Self {
                words: 1,
                codes: 32 / bits,
                per_word: 32 / bits,
                per_part: 4,
            },
        }
    }

    /// The indices of the codes that begin in a word of a row.
    const fn begin(self, word: usize) -> std::ops::Range<usize> {
        let (period, place) = (word / self.words, word % self.words);
        let first = period * self.codes + place * self.per_word;
        let last = (period + 1) * self.codes;
        let end = first + self.per_word;
        first..if end < last { end } else { last }
    }
}

impl Spread {
    /// Rearranges a row of as many numbers as the weight has inputs; none where the kernel of [`row`](super::row) does
    /// not fit the packing: groups that end within a word, more of them than a [`Block`] can number, or rows of fewer
    /// than eight words.
    pub(super) fn new(x: &[f32], weight: &Packed<'_>) -> Option<Self> {
        let places = Places::of(weight.bits);
        let words = weight.row_words();
        // Words per group. A single group may end within a word: its scale goes for the whole row.
        let span = match weight.groups() {
            1 => words.next_multiple_of(LANES),
            _ if weight.group.is_multiple_of(places.codes) => {
                weight.group / places.codes * places.words
            }
            _ => return None,
        };
        if words < LANES || weight.groups() > MOST_GROUPS {
            return None;
        }
        let mut spread = Self {
            blocks: Vec::with_capacity(words.div_ceil(LANES)),
            numbers: vec![[0.0; LANES]; words.div_ceil(LANES) * places.per_word],
            shared: 1 << span.trailing_zeros().min(LANES.trailing_zeros()),
        };
        let numbers = spread.numbers.chunks_exact_mut(places.per_word);
        for (first, numbers) in (0..).step_by(LANES).zip(numbers) {
            // The last block is moved back to end with the row: loads never reach beyond it.
            let at = first.min(words - LANES);
            let mut block = Block {
                at,
                group: std::array::from_fn(|lane| ((at + lane) / span) as u16),
                start: [0.0; LANES],
            };
            // Lanes before `first` were in the block before; their x stays 0, so that nothing is counted twice.
            for lane in first - at..LANES {
                let met = places.begin(at + lane);
                let met = &x[met.start.min(x.len())..met.end.min(x.len())];
                // Σ x once per row of x, instead of a subtraction per code.
                block.start[lane] = met.iter().sum::<f32>() * offset(weight.bits);
                for (k, (numbers, x)) in numbers.iter_mut().zip(met).enumerate() {
                    numbers[lane] = x * shrink(weight.bits, k);
                }
            }
            spread.blocks.push(block);
        }
        Some(spread)
    }
}

/// −2^(bits − 1)
fn offset(bits: usize) -> f32 {
    -((1 << (bits - 1)) as f32)
}

/// The power of two that undoes the position of a masked k-th code. The last code of a word is shifted down instead,
/// because a masked top bit would make it negative when converted.
fn shrink(bits: usize, k: usize) -> f32 {
    let bit = k % Places::of(bits).per_part * bits;
    match bit + bits {
        ..32 => f32::from_bits((127 - bit as u32) << 23), // 2^−bit
        _ => 1.0,
    }
}
