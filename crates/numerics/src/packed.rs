//! Products with a weight that stays packed: integers of a few bits, with a scale per group.
//!
//! ```text
//! y = x · Wᵀ,  W[o, i] = (u[o, i] − 2^(bits−1) − z[o, g]) · s[o, g],  g = i / group
//! x: t × in, u: out × in, s and z: out × groups, y: t × out
//! ```
//!
//! A row of W is a stream of codes u, element i at bits i·bits and up, the low end first, filled to a
//! whole number of 32-bit words. For a few rows of x (decoding) the codes are unpacked in registers, and each word is
//! read once: the cost is that of reading the weight from memory. For many rows (prefill) a panel
//! of W at a time is unpacked into the cache, for a product of matrices.
//!
//! The layout is that of compressed-tensors' `pack-quantized`, so that the words of a file are multiplied as they are.
//! Symmetric weights have no zero points; the 2^(bits−1) is there because codes are stored unsigned.

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

/// Up to so many rows of x are multiplied one by one by the packed words; more are worth unpacking the weight.
const FEW: usize = 8;

/// Numbers of an unpacked panel, 512 KiB: half of a core's second-level cache.
const PANEL: usize = 1 << 17;

/// Rows whose scales are converted to `f32` together.
const SCALED: usize = 16;

/// Rows of the weight that all rows of x are multiplied by before the next ones, so that their words stay in the
/// first-level cache.
const KEPT: usize = 64;

/// Parameters that are worth waking a thread for, which takes some 30 µs: a head is worth several threads, a weight of
/// a small model's blocks only the caller's.
const EACH: usize = 1 << 19;

/// Bands of outputs per thread, so that one that is late costs little at the end.
const BANDS: usize = 8;

/// A borrowed packed weight, out × in.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// out × in.
    shape: Shape,
    /// Bits per code: 2, 3, 4 or 8.
    bits: usize,
    /// Inputs per group; a divisor of in.
    group: usize,
    /// out × ⌈in · bits / 32⌉; each row begins a word.
    words: &'a [u32],
    /// out × groups; not read where `fine` has numbers.
    scales: &'a [f16],
    /// out × groups, or empty.
    fine: &'a [f32],
    /// out × groups, or empty where symmetric.
    zeros: &'a [i8],
}

impl<'a> Packed<'a> {
    /// From its parts: out × ⌈in·bits/32⌉ words, out × groups scales, and as many zero points, or none where all are 0.
    ///
    /// Fails where the width is not 2, 3, 4 or 8, the group does not divide the inputs, or a count does not fit.
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

    /// The same with `f32` scales, out × groups, which then go before the `f16` ones. Fails for another count.
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

    /// Bits per code, and inputs per group.
    #[must_use]
    pub const fn format(&self) -> (usize, usize) {
        (self.bits, self.group)
    }

    /// One dequantised row: the embedding of a token is one. Panics outside the matrix.
    #[must_use]
    pub fn row(&self, index: usize) -> Vec<f32> {
        let mut numbers = vec![0.0; self.shape.cols];
        self.unpack(index, &mut numbers);
        numbers
    }

    /// Rearranges one row of x for [`multiply`](Self::multiply). The result serves all weights of one width, group size
    /// and number of inputs.
    ///
    /// None where the kernel does not fit: groups that end within a word, more than 65,536 of them, rows of fewer than
    /// eight words. Such weights are unpacked.
    #[must_use]
    pub fn spread(&self, x: &[f32]) -> Option<Spread> {
        Spread::new(x, self)
    }

    /// Some of the outputs for one row of x, on this thread: `out[k] = Σ_i W[first + k, i] x[i]`.
    ///
    /// `x` must come from [`spread`](Self::spread) of a weight of the same width, group size and number of inputs. That
    /// is not checked; rows beyond the last panic.
    pub fn multiply(&self, x: &Spread, first: usize, out: &mut [f32]) {
        match self.bits {
            2 => self.multiply_by::<2>(x, first, out),
            3 => self.multiply_by::<3>(x, first, out),
            4 => self.multiply_by::<4>(x, first, out),
            _ => self.multiply_by::<8>(x, first, out),
        }
    }

    /// [`multiply`](Self::multiply) for a width that the compiler knows, so that masks and shifts are constants.
    fn multiply_by<const BITS: usize>(&self, x: &Spread, first: usize, out: &mut [f32]) {
        let mut scales = vec![0.0; SCALED * self.groups()];
        for (first, out) in (first..).step_by(SCALED).zip(out.chunks_mut(SCALED)) {
            let scales = &mut scales[..out.len() * self.groups()];
            // Conversion from `f16` of several rows at once: one row may have too few scales for a vector.
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

    /// Dequantises one row: codes as unsigned floats first, then offset, zero point and scale group by group.
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

    /// One scale by its index row · groups + group.
    fn scale(&self, index: usize) -> f32 {
        let fine = self.fine.get(index).copied();
        fine.unwrap_or_else(|| self.scales[index].to_f32())
    }

    /// The scales from an index on, as many as `scales` has room for, in `f32`.
    fn scales_from(&self, first: usize, scales: &mut [f32]) {
        if self.fine.is_empty() {
            let packed = &self.scales[first..][..scales.len()];
            half::slice::HalfFloatSliceExt::convert_to_f32_slice(packed, scales);
        } else {
            scales.copy_from_slice(&self.fine[first..][..scales.len()]);
        }
    }

    /// Groups per row.
    const fn groups(&self) -> usize {
        self.shape.cols / self.group
    }

    /// Words per row; a row begins at a word of its own.
    const fn row_words(&self) -> usize {
        (self.shape.cols * self.bits).div_ceil(32)
    }

    /// The packed codes of a row.
    fn words_of(&self, row: usize) -> &'a [u32] {
        &self.words[row * self.row_words()..][..self.row_words()]
    }

    /// The zero points of a row; empty where symmetric.
    fn zeros_of(&self, row: usize) -> &'a [i8] {
        let all = row * self.groups()..(row + 1) * self.groups();
        self.zeros.get(all).unwrap_or_default()
    }
}

/// `x · Wᵀ`, t × out from t × in; fails where the inputs differ.
///
/// On a thread of a rayon pool it uses that thread only, otherwise all cores. The result does not depend on their
/// number.
pub fn product_of_packed(x: Slab<'_>, weight: Packed<'_>) -> Result<Vec<f32>> {
    let (left, right) = (x.shape(), weight.shape);
    if left.cols != right.cols {
        let right = Shape::new(right.cols, right.rows);
        return Err(Error::Product { left, right });
    }
    let few = (0..left.rows).map(|row| weight.spread(x.row(row)));
    // With few rows the product is bound by reading the weight, which is least in its packed form.
    if left.rows <= FEW
        && let Some(few) = few.collect::<Option<Vec<_>>>()
    {
        return Ok(of_few(&few, weight));
    }
    // In the cache, but not so tall that some cores get no panel.
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

/// Products of a few rows of x, t × out. Cores share the outputs; each reads its part of the weight once for all rows.
fn of_few(x: &[Spread], weight: Packed<'_>) -> Vec<f32> {
    let outputs = weight.shape.rows;
    let mut out = vec![0.0; x.len() * outputs];
    let threads = threads(weight.shape.size(), EACH);
    // One band on a single thread: there is nothing to balance.
    let count = if threads == 1 { 1 } else { threads * BANDS };
    let band = outputs.div_ceil(count).max(1);
    // For each band its outputs of every row of x, so that one thread owns them all.
    let mut bands: Vec<Vec<&mut [f32]>> = (0..count).map(|_| Vec::new()).collect();
    for row in out.chunks_mut(outputs.max(1)) {
        let parts = bands.iter_mut().zip(row.chunks_mut(band));
        parts.for_each(|(band, part)| band.push(part));
    }
    let multiply = |(index, parts): (usize, &mut Vec<&mut [f32]>)| {
        let count = parts.first().map_or(0, |part| part.len());
        // Weight rows outside, rows of x inside: the words stay in the cache for all rows of x.
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
