//! Products with a weight that stays packed: integers of a few bits, with a scale per group.
//!
//! ```text
//! y = x · Wᵀ,  W[o, i] = (u[o, i] − 2^(bits−1) − z[o, g]) · s[o, g],  g = i / group
//! x: t × in, u: out × in, s and z: out × groups, y: t × out
//! ```
//!
//! A row of W is a stream of codes u, element i at bits i·bits and up, the low end first, filled to a
//! whole number of 32-bit words. A few rows of x are multiplied straight from the words, which are
//! read once and never written out: decoding is as fast as memory gives them. Many rows are worth
//! unpacking a panel of W at a time into the cache, for a product of matrices.

mod bits;
mod codes;
mod lanes;
mod row;
mod spread;
mod unpack;

use half::f16;
use rayon::prelude::*;

pub use bits::Bits;
pub use codes::{code, pack, pack_down, unpack, unpack_down, words};
pub use spread::Spread;

use crate::{
    Error, Result, Shape,
    linalg::{Slab, product_by_panels},
    threads,
};
use row::Row;

/// Up to so many rows of x, each is multiplied by the packed weight for itself.
const FEW: usize = 8;

/// Numbers of an unpacked panel: half of a core's second-level cache, 512 KiB.
const PANEL: usize = 1 << 17;

/// Rows whose scales are converted at a time.
const SCALED: usize = 16;

/// Rows of the weight that all rows of x are multiplied by before the next: they fit the first cache.
const KEPT: usize = 64;

/// Weights that are worth a thread, to wake which takes some 30 µs: a head is worth several, a weight of
/// a small model's blocks none but this one.
const EACH: usize = 1 << 19;

/// Bands of outputs for each thread: if they end at different times, then by little.
const BANDS: usize = 8;

/// A packed weight in someone else's memory.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    shape: Shape,
    bits: usize,
    group: usize,
    words: &'a [u32],
    scales: &'a [f16],
    fine: &'a [f32],
    zeros: &'a [i8],
}

impl<'a> Packed<'a> {
    /// Codes of 2, 3, 4 or 8 bits: out × ⌈in·bits/32⌉ words, and out × groups scales and zero points,
    /// which are empty where all are 0. A group is a divisor of the inputs, or all of them.
    pub fn new(
        shape: Shape,
        (bits, group): (usize, usize),
        words: &'a [u32],
        scales: &'a [f16],
        zeros: &'a [i8],
    ) -> Result<Self> {
        let packed = Self {
            shape,
            bits,
            group,
            words,
            scales,
            fine: &[],
            zeros,
        };
        let known = matches!(bits, 2 | 3 | 4 | 8) && group > 0 && shape.cols.is_multiple_of(group);
        let scales = if known {
            shape.rows * packed.groups()
        } else {
            0
        };
        let fits = words.len() == shape.rows * packed.row_words()
            && packed.scales.len() == scales
            && [0, scales].contains(&zeros.len());
        if known && fits {
            return Ok(packed);
        }
        Err(Error::Packing { shape, bits, group })
    }

    /// The same with scales in single precision, out × groups, in place of those in half precision.
    pub fn with_fine_scales(self, fine: &'a [f32]) -> Result<Self> {
        let Self {
            shape, bits, group, ..
        } = self;
        if fine.len() == self.scales.len() {
            Ok(Self { fine, ..self })
        } else {
            Err(Error::Packing { shape, bits, group })
        }
    }

    /// Output features × input features.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Bits of a code, and inputs of a group.
    #[must_use]
    pub const fn format(&self) -> (usize, usize) {
        (self.bits, self.group)
    }

    /// One row as it is multiplied by, in numbers: the embedding of a token is one.
    #[must_use]
    pub fn row(&self, index: usize) -> Vec<f32> {
        let mut numbers = vec![0.0; self.shape.cols];
        self.unpack(index, &mut numbers);
        numbers
    }

    /// What x, one row, becomes for [`multiply`](Self::multiply): the same for all weights of one width, one
    /// grouping and one number of inputs. None where no kernel fits: groups that end within a word,
    /// more than 65,536 of them, rows of less than eight words.
    #[must_use]
    pub fn spread(&self, x: &[f32]) -> Option<Spread> {
        Spread::new(x, self)
    }

    /// Some of the outputs for one row of x, from the output `first` on, on this thread.
    pub fn multiply(&self, x: &Spread, first: usize, out: &mut [f32]) {
        match self.bits {
            2 => self.multiply_by::<2>(x, first, out),
            3 => self.multiply_by::<3>(x, first, out),
            4 => self.multiply_by::<4>(x, first, out),
            _ => self.multiply_by::<8>(x, first, out),
        }
    }

    fn multiply_by<const BITS: usize>(&self, x: &Spread, first: usize, out: &mut [f32]) {
        let mut scales = vec![0.0; SCALED * self.groups()];
        for (first, out) in (first..).step_by(SCALED).zip(out.chunks_mut(SCALED)) {
            let scales = &mut scales[..out.len() * self.groups()];
            self.scales_from(first * self.groups(), scales);
            row::products::<BITS>(
                out,
                x,
                #[inline(always)]
                |i| Row {
                    words: self.words_of(first + i),
                    scales: &scales[i * self.groups()..][..self.groups()],
                    zeros: self.zeros_of(first + i),
                },
            );
        }
    }

    fn unpack(&self, index: usize, numbers: &mut [f32]) {
        unpack::codes(self.words_of(index), self.bits, numbers);
        let zeros = self.zeros_of(index);
        for (g, numbers) in numbers.chunks_mut(self.group).enumerate() {
            let scale = self.scale(index * self.groups() + g);
            let zero = f32::from(zeros.get(g).copied().unwrap_or(0));
            let zero = zero + (1 << (self.bits - 1)) as f32;
            numbers.iter_mut().for_each(|x| *x = (*x - zero) * scale);
        }
    }

    fn scale(&self, index: usize) -> f32 {
        let fine = self.fine.get(index).copied();
        fine.unwrap_or_else(|| self.scales[index].to_f32())
    }

    /// The scales from a place on, as many as there is room for.
    fn scales_from(&self, first: usize, scales: &mut [f32]) {
        if self.fine.is_empty() {
            let packed = &self.scales[first..][..scales.len()];
            half::slice::HalfFloatSliceExt::convert_to_f32_slice(packed, scales);
        } else {
            scales.copy_from_slice(&self.fine[first..][..scales.len()]);
        }
    }

    const fn groups(&self) -> usize {
        self.shape.cols / self.group
    }

    const fn row_words(&self) -> usize {
        (self.shape.cols * self.bits).div_ceil(32)
    }

    fn words_of(&self, row: usize) -> &'a [u32] {
        &self.words[row * self.row_words()..][..self.row_words()]
    }

    fn zeros_of(&self, row: usize) -> &'a [i8] {
        let all = row * self.groups()..(row + 1) * self.groups();
        self.zeros.get(all).unwrap_or_default()
    }
}

/// `x · Wᵀ`, t × out.
///
/// Within a pool of threads that share other work it uses its own thread only, else all cores. The
/// result does not depend on their number.
pub fn product_of_packed(x: Slab<'_>, weight: Packed<'_>) -> Result<Vec<f32>> {
    let (left, right) = (x.shape(), weight.shape);
    if left.cols != right.cols {
        let right = Shape::new(right.cols, right.rows);
        return Err(Error::Product { left, right });
    }
    let few = (0..left.rows).map(|row| weight.spread(x.row(row)));
    if left.rows <= FEW
        && let Some(few) = few.collect::<Option<Vec<_>>>()
    {
        return Ok(of_few(&few, weight));
    }
    // No more rows than leave each core a panel.
    let panel = (PANEL / right.cols.max(1)).min(right.rows.div_ceil(rayon::current_num_threads()));
    let unpack = |first: usize, rows: &mut [f32]| {
        let rows = rows.chunks_exact_mut(right.cols.max(1));
        (first..)
            .zip(rows)
            .for_each(|(row, numbers)| weight.unpack(row, numbers));
        Ok::<_, Error>(())
    };
    let products = product_by_panels(&[x], right.rows, panel, unpack)?;
    Ok(products.into_iter().flatten().collect())
}

/// Shares the outputs between the cores; each reads its part of the weight once for all rows of x.
fn of_few(x: &[Spread], weight: Packed<'_>) -> Vec<f32> {
    let outputs = weight.shape.rows;
    let mut out = vec![0.0; x.len() * outputs];
    let threads = threads(weight.shape.size(), EACH);
    let count = if threads == 1 { 1 } else { threads * BANDS };
    let band = outputs.div_ceil(count).max(1);
    let mut bands: Vec<Vec<&mut [f32]>> = (0..count).map(|_| Vec::new()).collect();
    for row in out.chunks_mut(outputs.max(1)) {
        let parts = bands.iter_mut().zip(row.chunks_mut(band));
        parts.for_each(|(band, part)| band.push(part));
    }
    let multiply = |(index, parts): (usize, &mut Vec<&mut [f32]>)| {
        let count = parts.first().map_or(0, |part| part.len());
        for first in (0..count).step_by(KEPT) {
            for (x, part) in x.iter().zip(&mut *parts) {
                let end = count.min(first + KEPT);
                weight.multiply(x, index * band + first, &mut part[first..end]);
            }
        }
    };
    if threads == 1 {
        bands.iter_mut().enumerate().for_each(multiply);
    } else {
        bands.par_iter_mut().enumerate().for_each(multiply);
    }
    out
}

#[cfg(test)]
#[path = "packed/tests.rs"]
mod tests;
