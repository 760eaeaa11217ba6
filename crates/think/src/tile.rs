//! One tile: 64 numbers side by side, row after row, and their products with some vectors.
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
//! y[lane] = s[lane] Σ_i x[i] c[i, lane] + m[lane] Σ_i x[i]        for each 64 rows
//! ```

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use compress_numerics::f16;

use crate::{
    integers::{GROUP, Group, PART, group_bytes, mask, pack, unpack},
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
    /// At most 64.
    pub lanes: usize,
}

impl Place {
    /// The rows and lanes of the tile, row after row.
    pub fn row_by_row(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows).flat_map(move |row| (0..self.lanes).map(move |lane| (row, lane)))
    }

    /// The same in strips of 16 lanes, as they are multiplied: floats, of which a tile fills a core's first cache, are then
    /// read in the order in which they lie in memory.
    pub fn strips(self) -> impl Iterator<Item = (usize, usize)> {
        let strips = (0..self.lanes).step_by(PART);
        strips.flat_map(move |first| {
            let lanes = first..self.lanes.min(first + PART);
            (0..self.rows).flat_map(move |row| lanes.clone().map(move |lane| (row, lane)))
        })
    }
}

/// How numbers are stored. Integers lie in groups, the rows of tiles, and s and m apart from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Of an integer; 16 and 32 are floats.
    pub bits: u8,
    /// Whether s and m belong to rows: of each tile the s of its rows, then their m. If not, they belong to lanes: for each
    /// 64 rows the s of all lanes, then their m.
    pub of_rows: bool,
    /// Whether there is no m, since it follows from s.
    pub symmetric: bool,
}

impl Coding {
    /// Bytes of a tile's integers.
    pub fn codes(self, place: Place) -> usize {
        place.rows * group_bytes(self.bits, place.lanes)
    }

    /// Numbers s and m of a tile.
    pub const fn grids(self, place: Place) -> usize {
        if self.of_rows {
            self.of_group() * place.rows
        } else {
            self.of_group() * place.rows.div_ceil(GROUP) * place.lanes
        }
    }

    /// Numbers s and m of a group.
    const fn of_group(self) -> usize {
        if self.symmetric { 1 } else { 2 }
    }

    /// Appends a tile.
    pub fn extend(self, tile: &[f32], lanes: usize, (codes, grids): (&mut Vec<u8>, &mut Vec<f16>)) {
        if self.of_rows {
            let rows = tile.chunks_exact(lanes);
            let groups: Vec<Group> = rows.map(|row| self.group(row)).collect();
            self.store_grids(&groups, grids);
            groups
                .iter()
                .for_each(|row| pack(&row.codes, self.bits, codes));
            return;
        }
        for rows in tile.chunks(GROUP * lanes) {
            let of_lane = |lane| {
                let numbers = rows.iter().skip(lane).step_by(lanes).copied();
                self.group(&numbers.collect::<Vec<f32>>())
            };
            let groups: Vec<Group> = (0..lanes).map(of_lane).collect();
            self.store_grids(&groups, grids);
            for row in 0..rows.len() / lanes {
                let row: Vec<u8> = groups.iter().map(|lane| lane.codes[row]).collect();
                pack(&row, self.bits, codes);
            }
        }
    }

    fn group(self, numbers: &[f32]) -> Group {
        if self.symmetric {
            Group::symmetric(numbers, self.bits)
        } else {
            Group::asymmetric(numbers, self.bits)
        }
    }

    fn store_grids(self, groups: &[Group], grids: &mut Vec<f16>) {
        grids.extend(groups.iter().map(|group| group.scale));
        if !self.symmetric {
            grids.extend(groups.iter().map(|group| group.least));
        }
    }

    /// s and m of some rows of a tile, at most 64 of them, or of its lanes for these rows.
    #[inline(always)]
    fn of_some(self, place: Place, rows: std::ops::Range<usize>, grids: &[f16]) -> (Row, Row) {
        // Where s begin, how far behind them the m lie, and how many there are.
        let (first, apart, count) = if self.of_rows {
            (rows.start, place.rows, rows.len())
        } else {
            (
                self.of_group() * rows.start / GROUP * place.lanes,
                place.lanes,
                place.lanes,
            )
        };
        let s: Row = singles(filled(&grids[first..][..count]));
        let m = if self.symmetric {
            times(&s, &[-0.5 * f32::from(mask(self.bits)); GROUP])
        } else {
            singles(filled(&grids[first + apart..][..count]))
        };
        (s, m)
    }
}

/// The numbers of a tile, or of it and all behind it.
#[derive(Clone, Copy)]
pub enum Tile<'a> {
    Single(&'a [f32]),
    Half(&'a [f16]),
    /// Integers, and their s and m.
    Integers(&'a [u8], &'a [f16]),
}

impl Tile<'_> {
    /// Takes the first tile off.
    #[inline(always)]
    pub fn split_off(&mut self, coding: Coding, place: Place) -> Self {
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
            Self::Integers(codes, grids) => {
                let (codes, other_codes) = codes.split_at(coding.codes(place));
                let (grids, other_grids) = grids.split_at(coding.grids(place));
                (
                    Self::Integers(codes, grids),
                    Self::Integers(other_codes, other_grids),
                )
            }
        };
        first
    }

    /// Σ x[i] a[i, lane], for several x.
    #[inline(always)]
    pub fn multiply<const R: usize>(
        self,
        coding: Coding,
        place: Place,
        x: [&[f32]; R],
    ) -> [Row; R] {
        let lanes = place.lanes;
        match self {
            Self::Single(numbers) => floats(
                lanes,
                x,
                #[inline(always)]
                |i, index| filled(of_strip(numbers, place, i, index)),
            ),
            Self::Half(numbers) => floats(
                lanes,
                x,
                #[inline(always)]
                |i, index| singles(filled(of_strip(numbers, place, i, index))),
            ),
            Self::Integers(codes, grids) => match coding.bits {
                2 => integers::<R, 2>(coding, place, (codes, grids), x),
                3 => integers::<R, 3>(coding, place, (codes, grids), x),
                4 => integers::<R, 4>(coding, place, (codes, grids), x),
                _ => integers::<R, 8>(coding, place, (codes, grids), x),
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

/// The numbers of a row in a strip of 16 lanes, or of what the last strip has.
#[inline(always)]
fn of_strip<T>(numbers: &[T], place: Place, row: usize, strip: usize) -> &[T] {
    let first = strip * PART;
    let width = PART.min(place.lanes - first);
    &numbers[first * place.rows + row * width..][..width]
}

/// Σ x[i] a[i, lane] over at most 64 rows. 16 lanes after the other: more sums than that do not fit into the registers of
/// AVX2.
#[inline(always)]
fn sums<const R: usize>(
    rows: std::ops::Range<usize>,
    lanes: usize,
    x: [Row; R],
    a: impl Fn(usize, usize) -> [f32; PART],
) -> [Row; R] {
    let mut all = [[0.0; GROUP]; R];
    for part in 0..lanes.div_ceil(PART) {
        let mut sums = [[0.0; PART]; R];
        for (i, at) in rows.clone().enumerate() {
            let a = a(at, part);
            for (sums, x) in sums.iter_mut().zip(&x) {
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum += x[i] * a;
                }
            }
        }
        for (all, sums) in all.iter_mut().zip(sums) {
            all[part * PART..][..PART].copy_from_slice(&sums);
        }
    }
    all
}

#[inline(always)]
fn floats<const R: usize>(
    lanes: usize,
    x: [&[f32]; R],
    // By value each time: a call through a reference to a closure is not inlined.
    a: impl Fn(usize, usize) -> [f32; PART] + Copy,
) -> [Row; R] {
    let (rows, mut all) = (x[0].len(), [[0.0; GROUP]; R]);
    for first in (0..rows).step_by(GROUP) {
        let rows = first..rows.min(first + GROUP);
        let mut some = [[0.0; GROUP]; R];
        for (some, x) in some.iter_mut().zip(x) {
            *some = filled(&x[rows.clone()]);
        }
        for (all, sums) in all.iter_mut().zip(sums(rows, lanes, some, a)) {
            all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        }
    }
    all
}

#[inline(always)]
fn integers<const R: usize, const BITS: u8>(
    coding: Coding,
    place: Place,
    (codes, grids): (&[u8], &[f16]),
    x: [&[f32]; R],
) -> [Row; R] {
    let lanes = place.lanes;
    let each = group_bytes(BITS, lanes);
    let mut all = [[0.0; GROUP]; R];
    for first in (0..place.rows).step_by(GROUP) {
        let rows = first..place.rows.min(first + GROUP);
        let (s, m) = coding.of_some(place, rows.clone(), grids);
        let (mut some, mut constants) = ([[0.0; GROUP]; R], [0.0; R]);
        for ((some, constant), x) in some.iter_mut().zip(&mut constants).zip(x) {
            *some = filled(&x[rows.clone()]);
            if coding.of_rows {
                *constant = sum(&times(some, &m));
                *some = times(some, &s);
            } else {
                *constant = sum(some);
            }
        }
        let sums = sums(
            rows,
            lanes,
            some,
            #[inline(always)]
            |i, part| unpack::<BITS>(&codes[i * each..][..each], (lanes, part)),
        );
        for ((all, sums), constant) in all.iter_mut().zip(sums).zip(constants) {
            for lane in 0..GROUP {
                all[lane] += if coding.of_rows {
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
