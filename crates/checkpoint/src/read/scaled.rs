//! Weights of one byte with scales in other tensors: FP8 and plain int8.
//!
//! ```text
//! W[i, j] = (code[i, j] − zero[i / a, j / b]) · scale[i / a, j / b]     W r × c, in blocks of a × b
//! ```
//!
//! A scale for the whole tensor is a block of r × c, one for each row 1 × c, one for groups of g
//! neighbours 1 × g. Scales and zero points are part of the weight's [`Tensor`] (`gather.rs`), as
//! they are in the blocks of a GGUF file, so that it is read like any float tensor.

use std::ops::Range;

use compress_core::Shape;

use crate::{Tensor, huggingface::quantisation::Code, read::e4m3};

/// The numbers of the bytes of two's complement.
static INTEGERS: [f32; 256] = {
    let mut numbers = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        numbers[byte] = (byte as u8).cast_signed() as f32;
        byte += 1;
    }
    numbers
};

/// How the bytes of a weight become numbers, and the tensors that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// What the bytes are.
    pub code: Code,
    /// The columns of the weight, at least one.
    pub(crate) cols: usize,
    /// a × b, neither of them 0.
    pub(crate) block: Shape,
    /// ⌈r / a⌉ × ⌈c / b⌉ floats.
    pub(crate) scales: Tensor,
    /// As many `I8`; none where the grid is symmetric.
    pub(crate) zeros: Option<Tensor>,
}

impl Scaled {
    /// Blocks in a row of blocks.
    const fn across(&self) -> usize {
        self.cols.div_ceil(self.block.cols)
    }

    /// The scales, by their indices, that `count` numbers from the `first` on need: whole rows of
    /// blocks.
    pub(crate) fn needed(&self, first: usize, count: usize) -> Range<usize> {
        let line = |number: usize| number / self.cols / self.block.rows;
        let last = first + count.saturating_sub(1);
        line(first) * self.across()..(line(last) + 1) * self.across()
    }

    /// Decodes numbers from the `first` on, with the scales (and zero points, or none) that are
    /// [`needed`](Self::needed) for them.
    pub(crate) fn decode(
        &self,
        first: usize,
        (codes, scales, zeros): (&[u8], &[f32], &[f32]),
        numbers: &mut [f32],
    ) {
        let table = match self.code {
            Code::E4m3 => &e4m3::NUMBERS,
            Code::Int8 => &INTEGERS,
        };
        let start = self.needed(first, 1).start;
        let mut done = 0;
        while done < numbers.len() {
            let (row, col) = ((first + done) / self.cols, (first + done) % self.cols);
            let index = row / self.block.rows * self.across() + col / self.block.cols - start;
            // Up to the end of the block, which the last column may cut off.
            let end = (col / self.block.cols + 1) * self.block.cols;
            let count = (end.min(self.cols) - col).min(numbers.len() - done);
            let scale = scales.get(index).copied().unwrap_or(f32::NAN);
            let zero = zeros.get(index).copied().unwrap_or_default();
            let run = numbers[done..done + count].iter_mut().zip(&codes[done..]);
            run.for_each(|(x, &code)| *x = (table[usize::from(code)] - zero) * scale);
            done += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use compress_core::Format;

    use super::*;
    use crate::Kind;

    /// Pieces of a large tensor start anywhere, and get the scales of their own blocks only.
    #[test]
    fn a_part_is_decoded_as_in_the_whole() {
        let (rows, cols) = (11_usize, 13_usize);
        let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 37 % 251) as u8).collect();
        for block in [
            (11, 13),
            (1, 13),
            (1, 1),
            (4, 5),
            (3, 13),
            (20, 4),
            (128, 128),
        ] {
            let block = Shape::new(block.0, block.1);
            let shape = vec![rows.div_ceil(block.rows), cols.div_ceil(block.cols)];
            let count = shape[0] * shape[1];
            let scales: Vec<f32> = (0..count).map(|i| 1.0 + i as f32).collect();
            let zeros: Vec<f32> = (0..count).map(|i| i as f32 % 5.0).collect();
            let companion = Tensor {
                shape,
                kind: Kind::Float(Format::F32),
                file: 0,
                range: 0..4 * count,
            };
            let scaled = Scaled {
                code: Code::Int8,
                cols,
                block,
                scales: companion.clone(),
                zeros: Some(companion),
            };
            let number = |i: usize| {
                let index =
                    i / cols / block.rows * cols.div_ceil(block.cols) + i % cols / block.cols;
                (f32::from(codes[i].cast_signed()) - zeros[index]) * scales[index]
            };
            for first in 0..rows * cols {
                for count in [1, 7, cols, 3 * cols + 2] {
                    let count = count.min(rows * cols - first);
                    let needed = scaled.needed(first, count);
                    let parts = (
                        &codes[first..],
                        &scales[needed.clone()],
                        &zeros[needed.clone()],
                    );
                    let mut numbers = vec![0.0; count];
                    scaled.decode(first, parts, &mut numbers);
                    let expected: Vec<f32> = (first..first + count).map(number).collect();
                    assert_eq!(numbers, expected, "{block} from {first}");
                }
            }
        }
    }
}
