//! A quantised weight: packed integer codes, a scale per group of inputs, and zero points where the grid is not
//! symmetric.
//!
//! ```text
//! W[i, j] = (code[i, j] − zero[i, j / g]) · scale[i, j / g]
//! ```
//!
//! Its parts are the tensors of the `pack-quantized` format of compressed-tensors:
//!
//! | tensor | numbers |
//! |---|---|
//! | `weight_packed` | i32, out × ⌈in·b / 32⌉: [`words`](Quantised::words) |
//! | `weight_scale` | f16, out × groups: [`scales`](Quantised::scales); of others' models also bf16 or f32 |
//! | `weight_zero_point` | i32, ⌈out·b / 32⌉ × groups: [`packed_zeros`](Quantised::packed_zeros); none where symmetric |
//! | `weight_shape` | i64, the two numbers of the shape |
//!
//! A scale may be negative: then the extra level of two's complement lies above 0 instead of below. Every constructor
//! checks counts and ranges, so that kernels need not.
//!
//! ```
//! use compress_core::{Bits, Quantised, Scheme, Shape, f16};
//!
//! let scheme = Scheme::symmetric(Bits::Four, None);
//! let weight = Quantised::from_codes(Shape::new(1, 3), scheme, &[-8, 0, 7], vec![f16::from_f32(0.5)], vec![])?;
//! assert_eq!(weight.dense().data(), [-4.0, 0.0, 3.5]);
//! assert_eq!(weight.words(), [0xf80]); // each code plus 8, four bits each, the first one lowest
//! # Ok::<(), compress_core::Error>(())
//! ```

use std::ops::Range;

use compress_numerics::packed::{Packed, code, pack, pack_down, unpack, unpack_down, words};

use crate::{Error, Grid, Matrix, Result, Scheme, Shape, f16};

/// A quantised weight, out × in, packed as on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    shape: Shape,
    scheme: Scheme,
    words: Vec<u32>,  // out × ⌈in·b / 32⌉
    scales: Vec<f16>, // out × groups
    fine: Vec<f32>,   // out × groups, or none where the former are exact
    zeros: Vec<i8>,   // out × groups, or none
}

impl Quantised {
    /// From codes, out × in row after row, and the scales and zero points of each group, out × groups (zero points only
    /// unless symmetric).
    ///
    /// Fails where a count does not fit the shape or the scheme, a code or zero point is out of range, or a scale is
    /// not finite.
    pub fn from_codes(
        shape: Shape,
        scheme: Scheme,
        codes: &[i8],
        scales: Vec<f16>,
        zeros: Vec<i8>,
    ) -> Result<Self> {
        countable(shape)?;
        count("code", shape.size(), codes.len())?;
        in_range("code", scheme, codes)?;
        let mut packed = Vec::with_capacity(shape.rows * words(scheme.bits, shape.cols));
        for row in codes.chunks_exact(shape.cols.max(1)) {
            pack(scheme.bits, row.iter().copied(), &mut packed);
        }
        Self::from_parts(shape, scheme, packed, scales, zeros)
    }

    /// Rounds to nearest (RTN) under absmax grids: each number by itself to the grid that covers its group.
    ///
    /// Fails where the group size does not divide the columns, or a number is not finite.
    pub fn nearest(weight: &Matrix, scheme: Scheme) -> Result<Self> {
        let shape = weight.shape();
        scheme.check(shape)?;
        if let Some((row, col, value)) = weight.first_non_finite() {
            return Err(Error::Packed {
                what: "number",
                fault: format!("in row {row}, column {col} is {value}"),
            });
        }
        let mut codes = Vec::with_capacity(shape.size());
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        // Groups divide the columns, so chunks of the whole matrix never cross from one row into the next.
        for group in weight.data().chunks(scheme.group_of(shape.cols)) {
            let grid = Grid::absmax(scheme, group);
            let code = |&x: &f32| grid.code(grid.nearest(f64::from(x)));
            codes.extend(group.iter().map(code));
            scales.push(grid.scale);
            if !scheme.symmetric {
                zeros.push(grid.zero);
            }
        }
        Self::from_codes(shape, scheme, &codes, scales, zeros)
    }

    /// From packed words as a file has them, with the zero points already unpacked
    /// ([`unpack_zeros`](Self::unpack_zeros)). Fails as [`from_codes`](Self::from_codes) does.
    pub fn from_parts(
        shape: Shape,
        scheme: Scheme,
        words: Vec<u32>,
        scales: Vec<f16>,
        zeros: Vec<i8>,
    ) -> Result<Self> {
        scheme.check(shape)?;
        countable(shape)?;
        let groups = shape.rows * scheme.groups(shape.cols);
        count("word", word_count(shape, scheme), words.len())?;
        count("scale", groups, scales.len())?;
        count(
            "zero point",
            if scheme.symmetric { 0 } else { groups },
            zeros.len(),
        )?;
        in_range("zero point", scheme, &zeros)?;
        if let Some(bad) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(Error::Packed {
                what: "scale",
                fault: format!("is {bad}"),
            });
        }
        Ok(Self {
            shape,
            scheme,
            words,
            scales,
            fine: Vec::new(),
            zeros,
        })
    }

    /// The same with scales in `f32`, out × groups, as other tools' files may have them (bf16 or f32). They are kept
    /// beside the rounded ones only if rounding to `f16` changes any. Fails for a wrong count and non-finite scales.
    pub fn with_fine_scales(mut self, scales: Vec<f32>) -> Result<Self> {
        count("scale", self.scales.len(), scales.len())?;
        let exact = |&scale: &f32| f16::from_f32(scale).to_f32().to_bits() == scale.to_bits();
        if let Some(bad) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(Error::Packed {
                what: "scale",
                fault: format!("is {bad}"),
            });
        }
        self.scales = scales.iter().copied().map(f16::from_f32).collect();
        let all_exact = scales.iter().all(exact);
        self.fine = if all_exact { Vec::new() } else { scales };
        Ok(self)
    }

    /// Output features × input features.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The quantisation scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The packed codes, out × ⌈in·b / 32⌉, row after row.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The scales, out × groups, row after row; rounded to `f16` where there are [`fine_scales`](Self::fine_scales).
    #[must_use]
    pub fn scales(&self) -> &[f16] {
        &self.scales
    }

    /// The scales in `f32`, out × groups; empty where the `f16` ones are exact.
    #[must_use]
    pub fn fine_scales(&self) -> &[f32] {
        &self.fine
    }

    /// One scale, by its index row · groups + group.
    fn scale(&self, index: usize) -> f32 {
        let half = || self.scales.get(index).map(|scale| scale.to_f32());
        let fine = self.fine.get(index).copied();
        fine.or_else(half).unwrap_or_default()
    }

    /// The zero points, out × groups, row after row; empty where symmetric.
    #[must_use]
    pub fn zeros(&self) -> &[i8] {
        &self.zeros
    }

    /// One code; none outside the shape. For many codes use [`codes`](Self::codes).
    #[must_use]
    pub fn code(&self, row: usize, col: usize) -> Option<i8> {
        if col >= self.shape.cols {
            return None;
        }
        let bits = self.scheme.bits;
        let stride = words(bits, self.shape.cols);
        code(bits, self.words.get(row * stride..)?, col)
    }

    /// All codes unpacked, out × in, row after row: a byte each.
    #[must_use]
    pub fn codes(&self) -> Vec<i8> {
        let (bits, cols) = (self.scheme.bits, self.shape.cols);
        let runs = self.words.chunks_exact(words(bits, cols).max(1));
        runs.flat_map(|run| unpack(bits, run, cols)).collect()
    }

    /// The dequantised matrix, out × in in `f32`.
    #[must_use]
    pub fn dense(&self) -> Matrix {
        self.dense_rows(0..self.shape.rows)
    }

    /// Some rows of the dequantised matrix; rows beyond the last are left out.
    #[must_use]
    pub fn dense_rows(&self, rows: Range<usize>) -> Matrix {
        let (bits, cols) = (self.scheme.bits, self.shape.cols);
        let rows = rows.start.min(self.shape.rows)..rows.end.min(self.shape.rows);
        let mut dense = Matrix::zeros(rows.len(), cols);
        let (group, groups) = (self.scheme.group_of(cols), self.scheme.groups(cols));
        let runs = self.words.chunks_exact(words(bits, cols).max(1));
        let lines = dense.data_mut().chunks_exact_mut(cols.max(1));
        for ((row, run), line) in runs.enumerate().skip(rows.start).zip(lines) {
            let codes: Vec<i8> = unpack(bits, run, cols).collect();
            let pairs = line.chunks_exact_mut(group).zip(codes.chunks_exact(group));
            for (index, (values, codes)) in (row * groups..).zip(pairs) {
                let scale = self.scale(index);
                // In 16 bits: code − zero of 8-bit codes needs nine.
                let zero = i16::from(self.zeros.get(index).copied().unwrap_or_default());
                for (value, &code) in values.iter_mut().zip(codes) {
                    *value = f32::from(i16::from(code) - zero) * scale;
                }
            }
        }
        dense
    }

    /// The borrowed form that the kernels multiply by.
    pub fn packed(&self) -> Result<Packed<'_>> {
        let group = self.scheme.group_of(self.shape.cols);
        let layout = (self.scheme.bits.count(), group);
        let packed = Packed::new(self.shape, layout, &self.words, &self.scales, &self.zeros)?;
        if self.fine.is_empty() {
            Ok(packed)
        } else {
            Ok(packed.with_fine_scales(&self.fine)?)
        }
    }

    /// Bytes of its tensors on disk, with scales counted as `f16`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.scheme.bytes(self.shape)
    }

    /// The zero points packed down the outputs as in a file: i32, ⌈out·b / 32⌉ × groups; empty where symmetric.
    #[must_use]
    pub fn packed_zeros(&self) -> Vec<u32> {
        if self.scheme.symmetric {
            return Vec::new();
        }
        let groups = self.scheme.groups(self.shape.cols);
        pack_down(self.scheme.bits, &self.zeros, groups)
    }

    /// Unpacks the zero points of a file to out × groups; the inverse of [`packed_zeros`](Self::packed_zeros). Fails
    /// for a wrong count of words.
    pub fn unpack_zeros(shape: Shape, scheme: Scheme, packed: &[u32]) -> Result<Vec<i8>> {
        scheme.check(shape)?;
        countable(shape)?;
        let (groups, length) = (scheme.groups(shape.cols), words(scheme.bits, shape.rows));
        count("word of zero points", groups * length, packed.len())?;
        Ok(unpack_down(scheme.bits, packed, shape.rows, groups))
    }
}

/// The packed words of a weight.
const fn word_count(shape: Shape, scheme: Scheme) -> usize {
    shape.rows * words(scheme.bits, shape.cols)
}

/// Refuses shapes whose size in bits would overflow: a file may claim any, and products of sizes are not checked
/// further on.
fn countable(shape: Shape) -> Result<()> {
    let bits = shape.rows.checked_mul(shape.cols);
    if bits.is_some_and(|size| size < usize::MAX / 64) {
        return Ok(());
    }
    Err(Error::Packed {
        what: "shape",
        fault: format!("of {shape} is beyond any memory"),
    })
}

/// Fails where a part has another length than the shape and the scheme ask for.
fn count(what: &'static str, wanted: usize, found: usize) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    Err(Error::Packed {
        what,
        fault: format!("count is {found} where {wanted} are needed"),
    })
}

/// Fails where a code or zero point needs more bits than the scheme has.
fn in_range(what: &'static str, scheme: Scheme, codes: &[i8]) -> Result<()> {
    let range = scheme.bits.least()..=scheme.bits.greatest();
    match codes.iter().find(|code| !range.contains(code)) {
        None => Ok(()),
        Some(code) => Err(Error::Packed {
            what,
            fault: format!("is {code}, which {} cannot hold", scheme.bits),
        }),
    }
}
