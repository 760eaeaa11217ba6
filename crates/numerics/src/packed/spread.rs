//! The other factor of a product, in the order in which the codes of packed words come out.
//!
//! Eight words of a row are taken at a time, one to a lane, and of each the lowest code first: so the
//! numbers that the k-th codes of eight words meet are brought side by side here, once for all rows of
//! the weight. A code that is masked out of its word and not shifted is too large by a power of two;
//! its number is made smaller by as much, which is exact.

use super::{Packed, lanes::LANES};

/// One row of x, spread for the weights of one packing.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Eight words of a row after the other; the last eight end with the row.
    pub(super) blocks: Vec<Block>,
    /// Per block, what the k-th codes of its words meet.
    pub(super) numbers: Vec<[f32; LANES]>,
    /// How many neighbouring lanes surely share a scale: 1, 2, 4 or 8.
    pub(super) shared: usize,
}

/// How many groups of a row can be told apart by sixteen bits.
const MOST_GROUPS: usize = 1 << 16;

/// Eight words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The first of them, counted from the row's first.
    pub at: usize,
    /// Which of the row's groups each lies in.
    pub group: [u16; LANES],
    /// −2^(bits − 1) · Σ x: what codes without a sign are too large by.
    pub start: [f32; LANES],
}

/// How the codes of one width lie in their words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// After this many words the pattern repeats …
    words: usize,
    /// … and after this many codes.
    codes: usize,
    /// The most codes that begin in one word.
    pub per_word: usize,
    /// Of these, so many are masked out before the rest is shifted down; the masks for a few stay in registers.
    pub per_part: usize,
}

impl Places {
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

    /// The codes that begin in a word.
    const fn begin(self, word: usize) -> std::ops::Range<usize> {
        let (period, place) = (word / self.words, word % self.words);
        let first = period * self.codes + place * self.per_word;
        let last = (period + 1) * self.codes;
        let end = first + self.per_word;
        first..if end < last { end } else { last }
    }
}

impl Spread {
    /// Spreads a row of as many numbers as the weight has inputs; none where the kernel of
    /// [`row`](super::row) does not fit the packing: groups that end within a word, more of them than
    /// a [`Block`] can number, or tiny rows.
    pub(super) fn new(x: &[f32], weight: &Packed<'_>) -> Option<Self> {
        let places = Places::of(weight.bits);
        let words = weight.row_words();
        // Words of a group; a single group may end where it likes.
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
            let at = first.min(words - LANES);
            let mut block = Block {
                at,
                group: std::array::from_fn(|lane| ((at + lane) / span) as u16),
                start: [0.0; LANES],
            };
            // Lanes before `first` were in the block before.
            for lane in first - at..LANES {
                let met = places.begin(at + lane);
                let met = &x[met.start.min(x.len())..met.end.min(x.len())];
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

/// By how much a masked k-th code is too large, inverted; the last of a word is shifted to its end.
fn shrink(bits: usize, k: usize) -> f32 {
    let bit = k % Places::of(bits).per_part * bits;
    match bit + bits {
        ..32 => f32::from_bits((127 - bit as u32) << 23), // 2^−bit
        _ => 1.0,
    }
}
