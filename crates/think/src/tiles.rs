//! Old keys and values of a head in the order in which attention reads them: tiles of 32 numbers side by side.
//!
//! ```text
//! scores q kᵀ    for each token a sum over channels:   tiles of channels × 32 tokens
//! Σ p v          for each channel a sum over tokens:   tiles of 32 tokens × 32 channels
//! ```
//!
//! Both are products of the tiles as they lie in memory; see `tile.rs`.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::{f16, kernels::vectorized};

use crate::{
    Format,
    integers::GROUP,
    tile::{Coding, Place, Tile},
};

/// Most queries that share what is read: a row of 32 numbers and the sums of each are in registers.
const SHARED: usize = 4;

/// What rows of a tile are; its lanes are the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// For keys.
    Channels,
    /// For values.
    Tokens,
}

/// Keys, or values, of some tokens; each 32 tokens in tiles of their own.
#[derive(Clone, Debug)]
pub struct Tiles {
    rows: Along,
    /// Channels.
    width: usize,
    tokens: usize,
    /// Tokens that there is memory for.
    most: usize,
    numbers: Numbers,
}

/// The numbers of all tiles, row after row.
#[derive(Clone, Debug)]
enum Numbers {
    Single(Vec<f32>),
    Half(Vec<f16>),
    Integers(Coding, Vec<u8>, Vec<f16>),
}

impl Tiles {
    /// No tokens yet, with memory for as many: nothing is copied to grow.
    pub fn new(format: Format, rows: Along, width: usize, tokens: usize) -> Self {
        let places = || places(rows, width, tokens);
        let numbers = match format {
            Format::F32 => Numbers::Single(Vec::with_capacity(tokens * width)),
            Format::F16 => Numbers::Half(Vec::with_capacity(tokens * width)),
            Format::ByChannel { bits } | Format::ByToken { bits } | Format::Rotated { bits } => {
                let by_channel = matches!(format, Format::ByChannel { .. });
                let coding = Coding {
                    bits,
                    of_rows: by_channel == (rows == Along::Channels),
                };
                let codes = places().map(|place| coding.codes(place)).sum();
                let grids = places().map(|place| coding.grids(place)).sum();
                Numbers::Integers(coding, Vec::with_capacity(codes), Vec::with_capacity(grids))
            }
        };
        Self {
            rows,
            width,
            tokens: 0,
            most: tokens,
            numbers,
        }
    }

    /// Tokens in it.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many more tokens it takes: none where the last tiles are not whole.
    pub const fn room(&self) -> usize {
        if self.tokens.is_multiple_of(GROUP) {
            self.most - self.tokens
        } else {
            0
        }
    }

    /// Appends tokens where there is room, a row of `width` numbers each.
    pub fn extend(&mut self, tokens: &[f32]) {
        let count = tokens.len() / self.width.max(1);
        debug_assert!(count <= self.room(), "tiles that are begun are not whole");
        for place in places(self.rows, self.width, count) {
            let rows = place.row..place.row + place.rows;
            let lanes = place.lane..place.lane + place.lanes;
            let pairs = rows.flat_map(|row| lanes.clone().map(move |lane| (row, lane)));
            let tile = pairs.map(|(row, lane)| match self.rows {
                Along::Channels => tokens[lane * self.width + row],
                Along::Tokens => tokens[row * self.width + lane],
            });
            let tile: Vec<f32> = tile.collect();
            self.numbers.extend(&tile, place.lanes);
        }
        self.tokens += count;
    }

    /// Adds the products with some vectors, one after the other, to as many others. Where rows are channels a vector has
    /// `width` numbers and its product one for each token; where they are tokens, the other way round.
    pub fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let (depth, length) = match self.rows {
            Along::Channels => (self.width, self.tokens),
            Along::Tokens => (self.tokens, self.width),
        };
        if depth == 0 || length == 0 {
            return;
        }
        let pairs = x
            .chunks(SHARED * depth)
            .zip(out.chunks_mut(SHARED * length));
        for (x, out) in pairs {
            match x.len() / depth {
                1 => self.multiply_shared::<1>(x, out),
                2 => self.multiply_shared::<2>(x, out),
                3 => self.multiply_shared::<3>(x, out),
                _ => self.multiply_shared::<SHARED>(x, out),
            }
        }
    }

    fn multiply_shared<const R: usize>(&self, x: &[f32], out: &mut [f32]) {
        let (depth, length) = (x.len() / R, out.len() / R);
        vectorized(
            #[inline(always)]
            move || {
                let mut rest = self.numbers.all();
                for place in places(self.rows, self.width, self.tokens) {
                    let x = std::array::from_fn::<_, R, _>(|r| {
                        &x[r * depth + place.row..][..place.rows]
                    });
                    let sums = rest.split_off(place).multiply(place, x);
                    for (r, sums) in sums.iter().enumerate() {
                        let out = &mut out[r * length + place.lane..][..place.lanes];
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                    }
                }
            },
        );
    }

    /// The tokens, a row of `width` numbers each: the products with the unit matrix, which are exact
    /// for finite numbers.
    pub fn decoded(&self) -> Vec<f32> {
        let (tokens, width) = (self.tokens, self.width);
        let depth = match self.rows {
            Along::Channels => width,
            Along::Tokens => tokens,
        };
        let mut unit = vec![0.0; depth * depth];
        unit.iter_mut().step_by(depth + 1).for_each(|x| *x = 1.0);
        let mut out = vec![0.0; tokens * width];
        self.multiply(&unit, &mut out);
        match self.rows {
            Along::Tokens => out,
            Along::Channels => {
                let token = |token| out.iter().skip(token).step_by(tokens);
                (0..tokens).flat_map(token).copied().collect()
            }
        }
    }
}

/// The tiles of some tokens, in the order in which they are stored.
#[inline(always)]
fn places(rows: Along, width: usize, tokens: usize) -> impl Iterator<Item = Place> {
    let across = match rows {
        Along::Channels => 1,
        Along::Tokens => width.div_ceil(GROUP),
    };
    (0..tokens.div_ceil(GROUP) * across).map(move |index| {
        let token = index / across * GROUP;
        let count = GROUP.min(tokens - token);
        match rows {
            Along::Channels => Place {
                row: 0,
                rows: width,
                lane: token,
                lanes: count,
            },
            Along::Tokens => {
                let lane = index % across * GROUP;
                Place {
                    row: token,
                    rows: count,
                    lane,
                    lanes: GROUP.min(width - lane),
                }
            }
        }
    })
}

impl Numbers {
    /// Appends a tile.
    fn extend(&mut self, tile: &[f32], lanes: usize) {
        match self {
            Self::Single(numbers) => numbers.extend_from_slice(tile),
            Self::Half(numbers) => numbers.extend(tile.iter().map(|&x| f16::from_f32(x))),
            Self::Integers(coding, codes, grids) => coding.extend(tile, lanes, (codes, grids)),
        }
    }

    fn all(&self) -> Tile<'_> {
        match self {
            Self::Single(numbers) => Tile::Single(numbers),
            Self::Half(numbers) => Tile::Half(numbers),
            Self::Integers(coding, codes, grids) => Tile::Integers(*coding, codes, grids),
        }
    }
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;
    use proptest::prelude::*;

    use super::*;

    fn formats() -> impl Strategy<Value = Format> {
        let bits = prop::sample::select(vec![2_u8, 3, 4, 8]);
        prop_oneof![
            Just(Format::F32),
            Just(Format::F16),
            bits.clone().prop_map(|bits| Format::ByChannel { bits }),
            bits.prop_map(|bits| Format::ByToken { bits }),
        ]
    }

    proptest! {
        #[test]
        fn no_number_is_off_by_more_than_half_a_step(
            format in formats(),
            channels: bool,
            (tokens, width) in (1_usize..100, 1_usize..70),
        ) {
            let rows = if channels { Along::Channels } else { Along::Tokens };
            let mut random = Random(3);
            let numbers: Vec<f32> = (0..tokens * width).map(|_| random.normal()).collect();
            let mut tiles = Tiles::new(format, rows, width, tokens);
            // Whole groups, and the rest.
            let (first, rest) = numbers.split_at(tokens / GROUP * GROUP * width);
            tiles.extend(first);
            tiles.extend(rest);
            prop_assert_eq!(tiles.tokens(), tokens);
            // Normal numbers are within 5 of 0: a step is at most 10 / (2ᵇ − 1). Floats of 16 bits have 11 that count.
            let step = match format {
                Format::F32 => 0.0,
                Format::F16 => 4.0 / 1024.0,
                Format::ByChannel { bits } | Format::ByToken { bits } | Format::Rotated { bits } => {
                    10.0 / ((1 << bits) - 1) as f32 + 0.02
                }
            };
            for (x, back) in numbers.iter().zip(tiles.decoded()) {
                prop_assert!((x - back).abs() <= step / 2.0);
            }
        }

        #[test]
        fn products_are_those_of_what_is_stored(
            format in formats(),
            channels: bool,
            (tokens, width, count) in (1_usize..100, 1_usize..140, 1_usize..10),
        ) {
            let rows = if channels { Along::Channels } else { Along::Tokens };
            let mut random = Random(4);
            let mut numbers = |count: usize| (0..count).map(|_| random.normal()).collect::<Vec<f32>>();
            let mut tiles = Tiles::new(format, rows, width, tokens);
            tiles.extend(&numbers(tokens * width));
            let stored = tiles.decoded();
            let (depth, length) = if channels { (width, tokens) } else { (tokens, width) };
            let x = numbers(count * depth);
            // The products are added to what is there.
            let mut out = vec![1.0; count * length];
            tiles.multiply(&x, &mut out);
            for (x, out) in x.chunks(depth).zip(out.chunks(length)) {
                for (lane, found) in out.iter().enumerate() {
                    let a = |i: usize| if channels { stored[lane * width + i] } else { stored[i * width + lane] };
                    let exact: f32 = x.iter().enumerate().map(|(i, x)| x * a(i)).sum();
                    prop_assert!((found - 1.0 - exact).abs() < 1e-4 * (1.0 + (depth as f32).sqrt()));
                }
            }
        }
    }
}
