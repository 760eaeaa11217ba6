//! How a weight is rounded to few bits: bits per code, inputs per scale, and with or without zero points.
//!
//! ```text
//! value = (code − zero) · scale     −2^(b−1) ≤ code < 2^(b−1)
//! bits per weight = b + 16 / g      and b / g more where there are zero points
//! ```
//!
//! Groups run along the inputs of a row: g neighbours share a scale, as in GPTQ, AWQ and compressed-tensors.

use std::fmt;

use compress_numerics::packed::words;
use serde::{Deserialize, Serialize};

use crate::{Bits, Error, Result, Shape};

/// A quantisation scheme: uniform integer codes with a scale per group of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Bits per code, b.
    pub bits: Bits,
    /// Group size g, the number of neighbouring inputs that share a scale; none for one scale per row.
    pub group: Option<usize>,
    /// Whether the grid is symmetric, without zero points; else each group has a zero point of b bits.
    pub symmetric: bool,
}

impl Scheme {
    /// A symmetric scheme with a scale per `group` inputs, or per row.
    #[must_use]
    pub const fn symmetric(bits: Bits, group: Option<usize>) -> Self {
        Self {
            bits,
            group,
            symmetric: true,
        }
    }

    /// The group size for a row of `inputs`; at least 1, so that it can be divided by.
    #[must_use]
    pub fn group_of(self, inputs: usize) -> usize {
        self.group.unwrap_or(inputs).max(1)
    }

    /// How many groups a row of `inputs` has.
    #[must_use]
    pub fn groups(self, inputs: usize) -> usize {
        inputs.div_ceil(self.group_of(inputs))
    }

    /// Bits per weight of codes, `f16` scales and zero points: b + (16 + b) · groups / in, without the zero points' b
    /// where symmetric. The padding of rows to whole 32-bit words is not counted; [`bytes`](Self::bytes) does.
    #[must_use]
    pub fn bits_per_weight(self, shape: Shape) -> f64 {
        let bits = self.bits.count() as f64;
        let zero = if self.symmetric { 0.0 } else { bits };
        bits + (16.0 + zero) * self.groups(shape.cols) as f64 / shape.cols.max(1) as f64
    }

    /// Bytes on disk of a weight of this shape, out × in: packed codes, `f16` scales, packed zero points and the two
    /// `i64` of the shape tensor.
    #[must_use]
    pub fn bytes(self, shape: Shape) -> usize {
        // Of a packed word, a scale, and `weight_shape`, in bytes.
        let (word, half, sizes) = (4, 2, 16);
        let groups = self.groups(shape.cols);
        let zeros = if self.symmetric {
            0
        } else {
            // Zero points are packed down the outputs, so it is the rows that are rounded up to whole words.
            word * words(self.bits, shape.rows) * groups
        };
        word * shape.rows * words(self.bits, shape.cols)
            + half * shape.rows * groups
            + zeros
            + sizes
    }

    /// Fails where the inputs of this shape do not make whole groups; the error lists group sizes that would do.
    pub fn check(self, shape: Shape) -> Result<()> {
        let group = self.group_of(shape.cols);
        // A group of 0 comes from a file; `group_of` takes it for 1, which must not make it valid.
        if self.group != Some(0) && shape.cols.is_multiple_of(group) {
            return Ok(());
        }
        Err(Error::Group {
            group: self.group.unwrap_or(group),
            shape,
            fits: sizes_that_fit(shape.cols),
        })
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bits)?;
        match self.group {
            Some(group) => write!(f, " g{group}")?,
            None => write!(f, " per row")?,
        }
        if self.symmetric {
            Ok(())
        } else {
            write!(f, " with zero points")
        }
    }
}

/// Candidate divisors are tried one by one up to this bound; larger divisors are found as the quotients. All divisors
/// of numbers up to 2³² are found that way, and the bound keeps the search short where a file claims 2⁶⁰ inputs.
const MOST: usize = 1 << 16;

/// The divisors of a number of inputs that kernels run well with: multiples of eight, at least sixteen; all divisors
/// found where there is none such.
fn sizes_that_fit(inputs: usize) -> Vec<usize> {
    let small = (1..=MOST.min(inputs.isqrt())).filter(|size| inputs.is_multiple_of(*size));
    let mut divisors: Vec<usize> = small.flat_map(|size| [size, inputs / size]).collect();
    divisors.sort_unstable();
    divisors.dedup();
    let liked = divisors.iter().copied();
    let liked: Vec<usize> = liked
        .filter(|&size| size >= 16 && size.is_multiple_of(8))
        .collect();
    if liked.is_empty() { divisors } else { liked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_does_not_fit_names_those_that_do() {
        let check = |inputs, group| {
            Scheme::symmetric(Bits::Four, Some(group)).check(Shape::new(10, inputs))
        };
        let told = |inputs, group| check(inputs, group).unwrap_err().to_string();
        assert!(check(288, 96).is_ok());
        assert!(told(288, 64).contains("16, 24, 32, 48, 72, 96, 144, 288"));
        assert!(told(576, 128).contains("64, 72, 96, 144, 192"));
        assert!(told(15, 4).contains("1, 3, 5, 15"));
        assert!(check(15, 0).is_err());
        assert!(
            Scheme::symmetric(Bits::Two, None)
                .check(Shape::new(3, 7))
                .is_ok()
        );
    }

    #[test]
    fn a_group_that_does_not_fit_an_absurd_number_of_inputs_is_refused_at_once() {
        for inputs in [(1 << 60) + 1, usize::MAX] {
            let scheme = Scheme::symmetric(Bits::Four, Some(32));
            let refused = scheme.check(Shape::new(1, inputs));
            assert!(matches!(refused, Err(Error::Group { .. })), "{refused:?}");
        }
    }

    #[test]
    fn bits_per_weight_count_scales_and_zero_points() {
        let shape = Shape::new(10, 64);
        let scheme = Scheme::symmetric(Bits::Four, Some(32));
        assert!((scheme.bits_per_weight(shape) - 4.5).abs() < 1e-12);
        let with_zeros = Scheme {
            symmetric: false,
            ..scheme
        };
        assert!((with_zeros.bits_per_weight(shape) - 4.625).abs() < 1e-12);
        let row = Scheme::symmetric(Bits::Two, None);
        assert!((row.bits_per_weight(shape) - 2.25).abs() < 1e-12);
    }

    #[test]
    fn a_scheme_says_what_it_is() {
        assert_eq!(
            Scheme::symmetric(Bits::Four, Some(32)).to_string(),
            "int4 g32"
        );
        let scheme = Scheme {
            symmetric: false,
            ..Scheme::symmetric(Bits::Two, None)
        };
        assert_eq!(scheme.to_string(), "int2 per row with zero points");
    }
}
