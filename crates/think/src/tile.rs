//! One tile: 32 numbers side by side, row after row, and their products with some vectors.
//!
//! ```text
//! y[lane] = Σ_i x[i] a[i, lane]
//! ```
//!
//! Sums stay in registers, none goes across a vector, and what is read once serves several x. Integers are multiplied as
//! they are, a = m + s c, whether s and m belong to rows or to lanes:
//!
//! ```text
//! y[lane] = Σ_i (x[i] s[i]) c[i, lane] + Σ_i x[i] m[i]
//! y[lane] = s[lane] Σ_i x[i] c[i, lane] + m[lane] Σ_i x[i]        for each 32 rows
//! ```

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::f16;

use crate::{
    integers::{GROUP, Grid, HALF, group_bytes, pack, unpack},
    rows::single,
};

/// A row of a tile.
pub type Row = [f32; GROUP];

/// Where a tile begins in the vectors that it is multiplied by and added to, and its size.
#[derive(Clone, Copy)]
pub struct Place {
    pub row: usize,
    pub rows: usize,
    pub lane: usize,
    /// At most 32.
    pub lanes: usize,
}

/// How integers are stored: as groups, the rows of tiles, and s and m apart from them.
#[derive(Clone, Copy, Debug)]
pub struct Coding {
    pub bits: u8,
    /// Whether s and m belong to rows: of each tile the s of its rows, then their m. If not, they belong to lanes: for each
    /// 32 rows the s of all lanes, then their m.
    pub of_rows: bool,
}

impl Coding {
    /// Bytes of a tile's integers.
    pub fn codes(self, place: Place) -> usize {
        place.rows * group_bytes(self.bits, place.lanes)
    }

    /// Numbers s and m of a tile.
    pub const fn grids(self, place: Place) -> usize {
        if self.of_rows {
            2 * place.rows
        } else {
            2 * place.rows.div_ceil(GROUP) * place.lanes
        }
    }

    /// Appends a tile.
    pub fn extend(self, tile: &[f32], lanes: usize, (codes, grids): (&mut Vec<u8>, &mut Vec<f16>)) {
        let mut store = |own: &[Grid]| {
            grids.extend(own.iter().map(|grid| grid.scale));
            grids.extend(own.iter().map(|grid| grid.least));
        };
        let bits = self.bits;
        if self.of_rows {
            let rows = tile.chunks_exact(lanes);
            let own: Vec<Grid> = rows.clone().map(|row| Grid::of(row.iter(), bits)).collect();
            store(&own);
            for (row, grid) in rows.zip(own) {
                let row: Vec<u8> = row.iter().map(|&x| grid.code(x, bits)).collect();
                pack(&row, bits, codes);
            }
            return;
        }
        for rows in tile.chunks(GROUP * lanes) {
            let lane = |lane: usize| Grid::of(rows.iter().skip(lane).step_by(lanes), bits);
            let own: Vec<Grid> = (0..lanes).map(lane).collect();
            store(&own);
            for row in rows.chunks_exact(lanes) {
                let row = row.iter().zip(&own);
                let row: Vec<u8> = row.map(|(&x, grid)| grid.code(x, bits)).collect();
                pack(&row, bits, codes);
            }
        }
    }
}

/// The numbers of a tile, or of it and all behind it.
#[derive(Clone, Copy)]
pub enum Tile<'a> {
    Single(&'a [f32]),
    Half(&'a [f16]),
    Integers(Coding, &'a [u8], &'a [f16]),
}

impl Tile<'_> {
    /// Takes the first tile off.
    #[inline(always)]
    pub fn split_off(&mut self, place: Place) -> Self {
        let count = place.rows * place.lanes;
        let first;
        (first, *self) = match *self {
            Self::Single(numbers) => {
                let (first, rest) = numbers.split_at(count);
                (Self::Single(first), Self::Single(rest))
            }
            Self::Half(numbers) => {
                let (first, rest) = numbers.split_at(count);
                (Self::Half(first), Self::Half(rest))
            }
            Self::Integers(coding, codes, grids) => {
                let (codes, other_codes) = codes.split_at(coding.codes(place));
                let (grids, other_grids) = grids.split_at(coding.grids(place));
                (
                    Self::Integers(coding, codes, grids),
                    Self::Integers(coding, other_codes, other_grids),
                )
            }
        };
        first
    }

    /// Σ x[i] a[i, lane], for several x.
    #[inline(always)]
    pub fn multiply<const R: usize>(self, place: Place, x: [&[f32]; R]) -> [Row; R] {
        let lanes = place.lanes;
        match self {
            Self::Single(numbers) => floats(
                x,
                #[inline(always)]
                |i, half| part(&numbers[i * lanes..][..lanes], half),
            ),
            Self::Half(numbers) => floats(
                x,
                #[inline(always)]
                |i, half| singles(part(&numbers[i * lanes..][..lanes], half)),
            ),
            Self::Integers(coding, codes, grids) => match coding.bits {
                2 => integers::<R, 2>(coding.of_rows, place, (codes, grids), x),
                3 => integers::<R, 3>(coding.of_rows, place, (codes, grids), x),
                4 => integers::<R, 4>(coding.of_rows, place, (codes, grids), x),
                _ => integers::<R, 8>(coding.of_rows, place, (codes, grids), x),
            },
        }
    }
}

/// Some numbers, filled up with zeros.
#[inline(always)]
fn filled<T: Copy + Default, const N: usize>(numbers: &[T]) -> [T; N] {
    if let Ok(all) = numbers.try_into() {
        return all;
    }
    let mut all = [T::default(); N];
    all[..numbers.len()].copy_from_slice(numbers);
    all
}

/// A half of a row, filled up with zeros.
#[inline(always)]
fn part<T: Copy + Default>(row: &[T], half: usize) -> [T; HALF] {
    let begin = (half * HALF).min(row.len());
    let end = (begin + HALF).min(row.len());
    filled(&row[begin..end])
}

/// Σ x[i] a[i, lane] over at most 32 rows. One half of the lanes after the other: more sums than that do not fit into the
/// registers of AVX2.
#[inline(always)]
fn sums<const R: usize>(
    rows: std::ops::Range<usize>,
    x: [Row; R],
    a: impl Fn(usize, usize) -> [f32; HALF],
) -> [Row; R] {
    let mut all = [[0.0; GROUP]; R];
    for half in 0..GROUP / HALF {
        let mut sums = [[0.0; HALF]; R];
        for (i, at) in rows.clone().enumerate() {
            let a = a(at, half);
            for (sums, x) in sums.iter_mut().zip(&x) {
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum += x[i] * a;
                }
            }
        }
        for (all, sums) in all.iter_mut().zip(sums) {
            all[half * HALF..][..HALF].copy_from_slice(&sums);
        }
    }
    all
}

#[inline(always)]
fn floats<const R: usize>(
    x: [&[f32]; R],
    // By value each time: a call through a reference to a closure is not inlined.
    a: impl Fn(usize, usize) -> [f32; HALF] + Copy,
) -> [Row; R] {
    let (rows, mut all) = (x[0].len(), [[0.0; GROUP]; R]);
    for first in (0..rows).step_by(GROUP) {
        let rows = first..rows.min(first + GROUP);
        let mut some = [[0.0; GROUP]; R];
        for (some, x) in some.iter_mut().zip(x) {
            *some = filled(&x[rows.clone()]);
        }
        for (all, sums) in all.iter_mut().zip(sums(rows, some, a)) {
            all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        }
    }
    all
}

#[inline(always)]
fn integers<const R: usize, const BITS: u8>(
    of_rows: bool,
    place: Place,
    (codes, grids): (&[u8], &[f16]),
    x: [&[f32]; R],
) -> [Row; R] {
    let lanes = place.lanes;
    let each = group_bytes(BITS, lanes);
    let mut all = [[0.0; GROUP]; R];
    for first in (0..place.rows).step_by(GROUP) {
        let rows = first..place.rows.min(first + GROUP);
        // Where the s of these rows, or of the lanes, begin; where their m; and how many they are.
        let (s, m, count) = if of_rows {
            (first, first + place.rows, rows.len())
        } else {
            let s = 2 * first / GROUP * lanes;
            (s, s + lanes, lanes)
        };
        let s: Row = singles(filled(&grids[s..][..count]));
        let m: Row = singles(filled(&grids[m..][..count]));
        let (mut some, mut constants) = ([[0.0; GROUP]; R], [0.0; R]);
        for ((some, constant), x) in some.iter_mut().zip(&mut constants).zip(x) {
            *some = filled(&x[rows.clone()]);
            if of_rows {
                *constant = sum(&times(some, &m));
                *some = times(some, &s);
            } else {
                *constant = sum(some);
            }
        }
        let sums = sums(
            rows,
            some,
            #[inline(always)]
            |i, half| unpack::<BITS>(&codes[i * each..][..each], (lanes, half)),
        );
        for ((all, sums), constant) in all.iter_mut().zip(sums).zip(constants) {
            for lane in 0..GROUP {
                all[lane] += if of_rows {
                    sums[lane] + constant
                } else {
                    s[lane] * sums[lane] + m[lane] * constant
                };
            }
        }
    }
    all
}

// Loops, since `map` and `from_fn` of arrays are calls that are not inlined into vector code.

#[inline(always)]
fn singles<const N: usize>(halves: [f16; N]) -> [f32; N] {
    let mut out = [0.0; N];
    for (out, half) in out.iter_mut().zip(halves) {
        *out = single(half);
    }
    out
}

#[inline(always)]
fn times(a: &Row, b: &Row) -> Row {
    let mut out = [0.0; GROUP];
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a * b;
    }
    out
}

/// Σ x, in lanes of 8.
#[inline(always)]
fn sum(x: &Row) -> f32 {
    let mut lanes = [0.0; 8];
    for x in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += x;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
