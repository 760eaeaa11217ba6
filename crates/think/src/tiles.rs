//! Old keys and values of a head in the order in which attention reads them: tiles of 64 numbers side by side.
//!
//! ```text
//! scores q kᵀ    for each token a sum over channels:   tiles of channels × 64 tokens
//! Σ p v          for each channel a sum over tokens:   tiles of 64 tokens × 64 channels
//! ```
//!
//! Both are products of the tiles as they lie in memory; see `tile.rs`.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::{f16, kernels::vectorized};

use crate::{
    integers::GROUP,
    tile::{Coding, Place, Tile},
};

/// Most queries that share what is read: 16 numbers and the sums of each are in registers.
const SHARED: usize = 4;

/// What rows of a tile are; its lanes are the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// For keys.
    Channels,
    /// For values.
    Tokens,
}

/// How rows of channels are stored in tiles.
#[derive(Clone, Debug)]
pub struct Layout {
    pub rows: Along,
    /// One after the other; all integers, or one section of floats.
    pub sections: Vec<Section>,
}

/// Channels side by side that are stored in one way.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub coding: Coding,
    pub width: usize,
}

impl Layout {
    /// Channels.
    pub fn width(&self) -> usize {
        self.sections.iter().map(|section| section.width).sum()
    }

    /// The tiles of some tokens, in the order in which they are stored.
    #[inline(always)]
    fn each_tile(&self, tokens: usize, mut each: impl FnMut(Coding, Place)) {
        for token in (0..tokens).step_by(GROUP) {
            let count = GROUP.min(tokens - token);
            let mut channel = 0;
            for &Section { coding, width } in &self.sections {
                match self.rows {
                    Along::Channels => each(
                        coding,
                        Place {
                            row: channel,
                            rows: width,
                            lane: token,
                            lanes: count,
                        },
                    ),
                    Along::Tokens => {
                        for lane in (0..width).step_by(GROUP) {
                            each(
                                coding,
                                Place {
                                    row: token,
                                    rows: count,
                                    lane: channel + lane,
                                    lanes: GROUP.min(width - lane),
                                },
                            );
                        }
                    }
                }
                channel += width;
            }
        }
    }

    /// What a vector has that is multiplied with the tiles of some tokens, and what the product has.
    fn depth_and_length(&self, tokens: usize) -> (usize, usize) {
        match self.rows {
            Along::Channels => (self.width(), tokens),
            Along::Tokens => (tokens, self.width()),
        }
    }
}

/// The numbers of some tokens' tiles, one after the other. Their layout and how many they are is known
/// elsewhere, since there are many of these.
#[derive(Clone, Debug)]
pub enum Tiles {
    Single(Vec<f32>),
    Half(Vec<f16>),
    /// Integers, and their s and m.
    Integers(Vec<u8>, Vec<f16>),
}

impl Tiles {
    /// No tokens yet, with memory for as many: nothing is copied to grow.
    pub fn new(layout: &Layout, tokens: usize) -> Self {
        let numbers = tokens * layout.width();
        match layout.sections.first().map(|section| section.coding.bits) {
            Some(32) => Self::Single(Vec::with_capacity(numbers)),
            Some(16) => Self::Half(Vec::with_capacity(numbers)),
            _ => {
                let (mut codes, mut grids) = (0, 0);
                layout.each_tile(tokens, |coding, place| {
                    codes += coding.codes(place);
                    grids += coding.grids(place);
                });
                Self::Integers(Vec::with_capacity(codes), Vec::with_capacity(grids))
            }
        }
    }

    /// Appends tokens, a row of numbers each. Those so far are whole groups.
    pub fn extend(&mut self, layout: &Layout, tokens: &[f32]) {
        let width = layout.width();
        layout.each_tile(tokens.len() / width.max(1), |coding, place| {
            let number = |(row, lane): (usize, usize)| match layout.rows {
                Along::Channels => tokens[(place.lane + lane) * width + place.row + row],
                Along::Tokens => tokens[(place.row + row) * width + place.lane + lane],
            };
            match self {
                Self::Single(numbers) => numbers.extend(place.strips().map(number)),
                Self::Half(numbers) => {
                    numbers.extend(place.strips().map(number).map(f16::from_f32));
                }
                Self::Integers(codes, grids) => {
                    let tile: Vec<f32> = place.row_by_row().map(number).collect();
                    coding.extend(&tile, place.lanes, (codes, grids));
                }
            }
        });
    }

    /// Adds the products of `tokens` tokens with some vectors, one after the other, to as many others. Where rows are
    /// channels a vector has a number for each of them and its product one for each token; where they are tokens, the other
    /// way round.
    pub fn multiply(&self, layout: &Layout, tokens: usize, x: &[f32], out: &mut [f32]) {
        let (depth, length) = layout.depth_and_length(tokens);
        if depth == 0 || length == 0 {
            return;
        }
        let pairs = x
            .chunks(SHARED * depth)
            .zip(out.chunks_mut(SHARED * length));
        for (x, out) in pairs {
            let sizes = (tokens, depth, length);
            match x.len() / depth {
                1 => self.multiply_shared::<1>(layout, sizes, x, out),
                2 => self.multiply_shared::<2>(layout, sizes, x, out),
                3 => self.multiply_shared::<3>(layout, sizes, x, out),
                _ => self.multiply_shared::<SHARED>(layout, sizes, x, out),
            }
        }
    }

    fn multiply_shared<const R: usize>(
        &self,
        layout: &Layout,
        (tokens, depth, length): (usize, usize, usize),
        x: &[f32],
        out: &mut [f32],
    ) {
        vectorized(
            #[inline(always)]
            move || {
                let mut rest = self.all();
                layout.each_tile(
                    tokens,
                    #[inline(always)]
                    |coding, place| {
                        let x = std::array::from_fn::<_, R, _>(|r| {
                            &x[r * depth + place.row..][..place.rows]
                        });
                        let tile = rest.split_off(coding, place);
                        let sums = tile.multiply(coding, place, x);
                        for (r, sums) in sums.iter().enumerate() {
                            let out = &mut out[r * length + place.lane..][..place.lanes];
                            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                        }
                    },
                );
            },
        );
    }

    /// The tokens, a row of numbers each: the products with the unit matrix, which are exact for finite numbers.
    pub fn decoded(&self, layout: &Layout, tokens: usize) -> Vec<f32> {
        let (depth, length) = layout.depth_and_length(tokens);
        let mut unit = vec![0.0; depth * depth];
        unit.iter_mut().step_by(depth + 1).for_each(|x| *x = 1.0);
        let mut out = vec![0.0; depth * length];
        self.multiply(layout, tokens, &unit, &mut out);
        match layout.rows {
            Along::Tokens => out,
            Along::Channels => {
                let token = |token| out.iter().skip(token).step_by(tokens);
                (0..tokens).flat_map(token).copied().collect()
            }
        }
    }

    const fn all(&self) -> Tile<'_> {
        match self {
            Self::Single(numbers) => Tile::Single(numbers.as_slice()),
            Self::Half(numbers) => Tile::Half(numbers.as_slice()),
            Self::Integers(codes, grids) => Tile::Integers(codes.as_slice(), grids.as_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;
    use proptest::prelude::*;

    use super::*;

    /// Layouts of so many channels.
    fn layouts(width: usize) -> impl Strategy<Value = Layout> {
        let rows = prop::sample::select(vec![Along::Channels, Along::Tokens]);
        let coding = |bits, of_rows, symmetric| Coding {
            bits,
            of_rows,
            symmetric,
        };
        let float = prop::sample::select(vec![16_u8, 32]);
        let floats = float.prop_map(move |bits| {
            let coding = coding(bits, false, false);
            vec![Section { coding, width }]
        });
        let bits = prop::sample::select(vec![2_u8, 3, 4, 8]);
        let integers = (bits, any::<bool>(), any::<bool>(), 0..=width);
        let integers = integers.prop_map(move |(bits, of_rows, symmetric, first)| {
            // Two sections of different widths.
            let section = |bits, width| Section {
                coding: coding(bits, of_rows, symmetric),
                width,
            };
            vec![section(bits, first), section(4, width - first)]
        });
        (rows, prop_oneof![floats, integers]).prop_map(|(rows, sections)| Layout { rows, sections })
    }

    proptest! {
        #[test]
        fn no_number_is_off_by_more_than_half_a_step(
            (width, layout) in (1_usize..140).prop_flat_map(|width| (Just(width), layouts(width))),
            tokens in 1_usize..150,
        ) {
            let mut random = Random(3);
            let numbers: Vec<f32> = (0..tokens * width).map(|_| random.normal()).collect();
            let mut tiles = Tiles::new(&layout, tokens);
            // Whole groups, and the rest.
            let (first, rest) = numbers.split_at(tokens / GROUP * GROUP * width);
            tiles.extend(&layout, first);
            tiles.extend(&layout, rest);
            let stored = tiles.decoded(&layout, tokens);
            prop_assert_eq!(stored.len(), numbers.len());
            let mut channels = layout.sections.iter().flat_map(|s| std::iter::repeat_n(s.coding, s.width)).cycle();
            // Of symmetric grids, which cut numbers off: the sum of squared errors, and what it may be.
            let (mut cut, mut may) = (0.0, 1e-6);
            for (x, back) in numbers.iter().zip(stored) {
                // Normal numbers are within 5 of 0: a step is at most 10 / (2ᵇ − 1). Floats of 16 bits have 11 that count.
                let step = match channels.next().unwrap() {
                    Coding { bits: 32, .. } => 0.0,
                    Coding { bits: 16, .. } => 4.0 / 1024.0,
                    Coding { symmetric: true, bits, .. } => {
                        cut += (x - back).powi(2);
                        may += x.powi(2) * if bits == 8 { 0.002 } else { 5.0 * 0.25_f32.powi(bits.into()) };
                        f32::INFINITY
                    }
                    Coding { bits, .. } => 10.0 / ((1 << bits) - 1) as f32 + 0.02,
                };
                prop_assert!((x - back).abs() <= step / 2.0);
            }
            prop_assert!(cut <= may, "{cut} of {may}");
        }

        #[test]
        fn products_are_those_of_what_is_stored(
            (width, layout) in (1_usize..140).prop_flat_map(|width| (Just(width), layouts(width))),
            (tokens, count) in (1_usize..150, 1_usize..10),
        ) {
            let mut random = Random(4);
            let mut numbers = |count: usize| (0..count).map(|_| random.normal()).collect::<Vec<f32>>();
            let mut tiles = Tiles::new(&layout, tokens);
            tiles.extend(&layout, &numbers(tokens * width));
            let stored = tiles.decoded(&layout, tokens);
            let (depth, length) = layout.depth_and_length(tokens);
            let x = numbers(count * depth);
            // The products are added to what is there.
            let mut out = vec![1.0; count * length];
            tiles.multiply(&layout, tokens, &x, &mut out);
            for (x, out) in x.chunks(depth).zip(out.chunks(length)) {
                for (lane, found) in out.iter().enumerate() {
                    let a = |i: usize| match layout.rows {
                        Along::Channels => stored[lane * width + i],
                        Along::Tokens => stored[i * width + lane],
                    };
                    let exact: f32 = x.iter().enumerate().map(|(i, x)| x * a(i)).sum();
                    prop_assert!((found - 1.0 - exact).abs() < 1e-4 * (1.0 + (depth as f32).sqrt()));
                }
            }
        }
    }
}
