//! A weight of few bits: codes, a scale per group of inputs, and a zero point where they are not
//! symmetric.
//!
//! ```text
//! W[i, j] = (code[i, j] − zero[i, j / g]) · scale[i, j / g]
//! ```
//!
//! What it holds are the tensors that compressed-tensors calls `pack-quantized`:
//!
//! | tensor | numbers |
//! |---|---|
//! | `weight_packed` | i32, out × ⌈in·b / 32⌉: [`words`](Quantised::words) |
//! | `weight_scale` | f16, out × groups: [`scales`](Quantised::scales) |
//! | `weight_zero_point` | i32, ⌈out·b / 32⌉ × groups: [`packed_zeros`](Quantised::packed_zeros); none where symmetric |
//! | `weight_shape` | i64, the two numbers of the shape |
//!
//! A scale may be negative: then the greatest magnitude lies on the other side of 0.
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

use half::f16;

use crate::{
    Error, Matrix, Result, Scheme, Shape,
    packing::{code, pack, unpack, words},
};

/// Bytes of the two 64-bit numbers in which the shape is stored.
const SHAPE_BYTES: usize = 16;

/// A weight rounded to few bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    shape: Shape,
    scheme: Scheme,
    words: Vec<u32>,  // out × ⌈in·b / 32⌉
    scales: Vec<f16>, // out × groups
    zeros: Vec<i8>,   // out × groups, or none
}

impl Quantised {
    /// From codes, row after row, and what each group has: scales, and zero points unless symmetric;
    /// both out × groups. Fails where any of them does not fit the shape or the scheme.
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

    /// From the packed words of a file, with the zero points unpacked ([`unpack_zeros`](Self::unpack_zeros)).
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
            zeros,
        })
    }

    /// Output features × input features.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// How it is rounded.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The packed codes, out × ⌈in·b / 32⌉, row after row.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The scales, out × groups, row after row.
    #[must_use]
    pub fn scales(&self) -> &[f16] {
        &self.scales
    }

    /// The zero points, out × groups, row after row; none where symmetric.
    #[must_use]
    pub fn zeros(&self) -> &[i8] {
        &self.zeros
    }

    /// One code; none outside the shape.
    #[must_use]
    pub fn code(&self, row: usize, col: usize) -> Option<i8> {
        if col >= self.shape.cols {
            return None;
        }
        let bits = self.scheme.bits;
        let stride = words(bits, self.shape.cols);
        code(bits, self.words.get(row * stride..)?, col)
    }

    /// All codes, row after row.
    #[must_use]
    pub fn codes(&self) -> Vec<i8> {
        let (bits, cols) = (self.scheme.bits, self.shape.cols);
        let runs = self.words.chunks_exact(words(bits, cols).max(1));
        runs.flat_map(|run| unpack(bits, run, cols)).collect()
    }

    /// The matrix that it denotes.
    #[must_use]
    pub fn dense(&self) -> Matrix {
        let mut dense = Matrix::zeros(self.shape.rows, self.shape.cols);
        let group = self.scheme.group_of(self.shape.cols);
        let codes = self.codes();
        let runs = dense.data_mut().chunks_exact_mut(group);
        for (index, (values, codes)) in runs.zip(codes.chunks_exact(group)).enumerate() {
            let scale = self.scales.get(index).copied().unwrap_or_default().to_f32();
            let zero = i16::from(self.zeros.get(index).copied().unwrap_or_default());
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = f32::from(i16::from(code) - zero) * scale;
            }
        }
        dense
    }

    /// Bytes of its tensors on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(self.shape, self.scheme)
    }

    /// The zero points as a file has them: i32, ⌈out·b / 32⌉ × groups, packed down the outputs.
    #[must_use]
    pub fn packed_zeros(&self) -> Vec<u32> {
        if self.scheme.symmetric {
            return Vec::new();
        }
        let groups = self.scheme.groups(self.shape.cols);
        let mut runs = Vec::new(); // groups × ⌈out·b / 32⌉
        for group in 0..groups {
            let column = self.zeros.iter().skip(group).step_by(groups).copied();
            pack(self.scheme.bits, column, &mut runs);
        }
        transposed(&runs, groups)
    }

    /// Zero points, out × groups, from those of a file; the inverse of [`packed_zeros`](Self::packed_zeros).
    pub fn unpack_zeros(shape: Shape, scheme: Scheme, packed: &[u32]) -> Result<Vec<i8>> {
        scheme.check(shape)?;
        countable(shape)?;
        let (groups, length) = (scheme.groups(shape.cols), words(scheme.bits, shape.rows));
        count("word of zero points", groups * length, packed.len())?;
        let runs = transposed(packed, length); // groups × length
        let columns = runs.chunks_exact(length.max(1));
        let zeros: Vec<i8> = columns
            .flat_map(|run| unpack(scheme.bits, run, shape.rows))
            .collect();
        Ok(transposed(&zeros, groups))
    }
}

/// Bytes on disk of a weight of the given shape: codes, scales, zero points and the shape itself.
#[must_use]
pub(crate) fn bytes(shape: Shape, scheme: Scheme) -> usize {
    let groups = scheme.groups(shape.cols);
    let zeros = if scheme.symmetric {
        0
    } else {
        4 * words(scheme.bits, shape.rows) * groups
    };
    4 * word_count(shape, scheme) + 2 * shape.rows * groups + zeros + SHAPE_BYTES
}

const fn word_count(shape: Shape, scheme: Scheme) -> usize {
    shape.rows * words(scheme.bits, shape.cols)
}

/// The transpose of a row-major matrix with the given number of rows.
fn transposed<T: Copy>(matrix: &[T], rows: usize) -> Vec<T> {
    let cols = matrix.len() / rows.max(1);
    let column = |j| matrix.iter().skip(j).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}

/// Whether the bits and bytes of a shape can be counted at all: a file may claim any.
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

fn count(what: &'static str, wanted: usize, found: usize) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    Err(Error::Packed {
        what,
        fault: format!("count is {found} where {wanted} are needed"),
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bits, Random};

    fn example(
        bits: Bits,
        shape: Shape,
        group: Option<usize>,
        symmetric: bool,
    ) -> (Quantised, Vec<i8>) {
        let mut random = Random(shape.size() as u64 + bits.count() as u64);
        let mut any = |count| -> Vec<i8> {
            let mut one = || random.uniform() * f32::from(1 + u16::from(bits.steps()));
            (0..count)
                .map(|_| (one() as i16 + i16::from(bits.least())) as i8)
                .collect()
        };
        let scheme = Scheme {
            bits,
            group,
            symmetric,
        };
        let groups = shape.rows * scheme.groups(shape.cols);
        let codes = any(shape.size());
        let zeros = if symmetric { Vec::new() } else { any(groups) };
        let scales = (0..groups)
            .map(|i| f16::from_f32(0.25 * i as f32 - 1.0))
            .collect();
        (
            Quantised::from_codes(shape, scheme, &codes, scales, zeros).unwrap(),
            codes,
        )
    }

    #[test]
    fn what_is_packed_is_unpacked_for_all_bits_and_ragged_sizes() {
        for bits in Bits::ALL {
            for (rows, cols) in [(1, 1), (3, 7), (5, 33), (33, 10), (2, 96), (4, 43)] {
                for symmetric in [true, false] {
                    let (weight, codes) = example(bits, Shape::new(rows, cols), None, symmetric);
                    assert_eq!(weight.codes(), codes);
                    for (i, &code) in codes.iter().enumerate() {
                        assert_eq!(weight.code(i / cols, i % cols), Some(code));
                    }
                    assert_eq!(weight.code(0, cols), None);
                    assert_eq!(weight.code(rows, 0), None);
                    let (shape, scheme) = (weight.shape(), weight.scheme());
                    if !symmetric {
                        let zeros = Quantised::unpack_zeros(shape, scheme, &weight.packed_zeros());
                        assert_eq!(zeros.unwrap(), weight.zeros());
                    }
                    let parts = 4 * (weight.words().len() + weight.packed_zeros().len());
                    assert_eq!(weight.bytes(), parts + 2 * weight.scales().len() + 16);
                }
            }
        }
    }

    #[test]
    fn values_are_codes_less_the_zero_point_times_the_scale() {
        let (weight, codes) = example(Bits::Three, Shape::new(4, 12), Some(4), false);
        let dense = weight.dense();
        for (i, &code) in codes.iter().enumerate() {
            let zero = f32::from(weight.zeros()[i / 4]);
            let value = (f32::from(code) - zero) * weight.scales()[i / 4].to_f32();
            assert!((dense.data()[i] - value).abs() < 1e-9);
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let (good, codes) = example(Bits::Three, Shape::new(4, 12), Some(4), false);
        let (shape, scheme) = (good.shape(), good.scheme());
        let parts = |words: &[u32], scales: &[f16], zeros: &[i8]| {
            Quantised::from_parts(shape, scheme, words.into(), scales.into(), zeros.into())
        };
        let (words, scales, zeros) = (good.words(), good.scales(), good.zeros());
        assert_eq!(parts(words, scales, zeros).unwrap(), good);
        assert!(parts(&words[1..], scales, zeros).is_err());
        assert!(parts(words, &scales[1..], zeros).is_err());
        assert!(parts(words, scales, &[]).is_err());
        assert!(parts(words, scales, &[4; 12]).is_err());
        assert!(parts(words, &[f16::NAN; 12], zeros).is_err());
        let odd = Scheme {
            group: Some(5),
            ..scheme
        };
        assert!(Quantised::from_codes(shape, odd, &codes, scales.into(), zeros.into()).is_err());
        assert!(Quantised::unpack_zeros(shape, scheme, &[0; 2]).is_err());
        let vast = Shape::new(usize::MAX / 2, 12);
        assert!(Quantised::from_parts(vast, scheme, vec![], vec![], vec![]).is_err());
        assert!(Quantised::unpack_zeros(vast, scheme, &[]).is_err());
        let error = Quantised::from_codes(shape, scheme, &[9; 48], scales.into(), zeros.into());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("code is 9, which int3 cannot hold")
        );
    }
}
