//! A packed weight in the memory of a GPU.

use burn::tensor::{Device, Tensor};
use burn_cubecl::tensor::CubeTensor;
use compress_core::{Matrix, Precision, Quantised, Shape, f16};
use cubecl::prelude::*;

use crate::{
    kernels::{self, Kind, LANES, Layout, ROWS, SIDE, TILE},
    tensor::{empty_beside, on_gpu, plain, words_beside, wrap},
};

/// Up to so many tokens are multiplied one by one; for more it pays to unpack the weight once for all.
const FEW: usize = 8;

/// Numbers of a weight of floats that is decoded for a product, 256 MB of them: any of a block of 7B is smaller.
const DECODED: usize = 1 << 26;

/// Cubes along one dimension: what every adapter has.
const MOST: u32 = 65_535;

/// A weight of 2 to 8 bits or of 16-bit floats, out × in, on a device: its packed words, its scales and its zero points.
#[derive(Clone, Debug)]
pub struct Packed {
    shape: Shape,
    precision: Precision,
    layout: Layout,
    words: CubeTensor,
    scales: CubeTensor,
    zeros: CubeTensor,
}

impl Packed {
    /// Copies a weight to a GPU; none for another device.
    #[must_use]
    pub fn new(weight: &Quantised, device: &Device) -> Option<Self> {
        // Before anything is converted: on the CPU every weight is asked for.
        let gpu = on_gpu(device)?;
        let (shape, scheme) = (weight.shape(), weight.scheme());
        let fine = !weight.fine_scales().is_empty();
        let scales: Vec<u32> = if fine {
            weight.fine_scales().iter().map(|x| x.to_bits()).collect()
        } else {
            let pairs = weight.scales().chunks(2);
            pairs
                .map(|pair| joined(pair.iter().map(|x| u32::from(x.to_bits())), 16))
                .collect()
        };
        let zeros = weight.zeros().chunks(4);
        let zeros = zeros.map(|four| joined(four.iter().map(|x| u32::from(x.cast_unsigned())), 8));
        let zeros: Vec<u32> = zeros.collect();
        Some(Self {
            shape,
            precision: Precision::Quantised(scheme),
            layout: Layout {
                kind: Kind::Codes,
                bits: scheme.bits.count(),
                group: scheme.group_of(shape.cols),
                inputs: shape.cols,
                fine,
                zeros: !zeros.is_empty(),
            },
            words: words_beside(weight.words(), &gpu),
            scales: words_beside(&scales, &gpu),
            zeros: words_beside(&zeros, &gpu),
        })
    }

    /// Copies a weight of floats to a GPU in 16 bits; none for another device, and where any of its numbers needs
    /// more than one of the two formats of 16 bits has.
    ///
    /// Products of many tokens decode it first, unless it is very large, and leave the product to burn.
    #[must_use]
    pub fn floats(weight: &Matrix, device: &Device) -> Option<Self> {
        let gpu = on_gpu(device)?;
        let (kind, numbers) = halves(weight.data())?;
        let shape = weight.shape();
        let rows = numbers.chunks(shape.cols.max(1));
        // Each row begins a word of its own.
        let packed = rows.flat_map(|row| row.chunks(2));
        let packed = packed.map(|pair| joined(pair.iter().map(|x| u32::from(*x)), 16));
        let packed: Vec<u32> = packed.collect();
        Some(Self {
            shape,
            precision: Precision::Float,
            layout: Layout {
                kind,
                bits: 16,
                group: shape.cols.max(1),
                inputs: shape.cols,
                fine: false,
                zeros: false,
            },
            words: words_beside(&packed, &gpu),
            scales: words_beside(&[], &gpu),
            zeros: words_beside(&[], &gpu),
        })
    }

    /// Output features × input features.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The scheme, where its numbers are integers.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// X Wᵀ, tokens × out from tokens × in; none where X is not a plain tensor on a GPU.
    #[must_use]
    pub fn forward(&self, x: &Tensor<2>) -> Option<Tensor<2>> {
        let [tokens, _] = x.dims();
        if tokens > FEW && self.is_decoded() {
            return Some(x.clone().matmul(self.dense().transpose()));
        }
        let x = plain(x)?;
        Some(wrap(if tokens <= FEW {
            self.few_rows(x, tokens)
        } else {
            self.tiles(x, tokens, true)
        }))
    }

    /// G W, tokens × in from tokens × out; none where G is not a plain tensor on a GPU.
    #[must_use]
    pub fn backward(&self, gradient: &Tensor<2>) -> Option<Tensor<2>> {
        if self.is_decoded() {
            return Some(gradient.clone().matmul(self.dense()));
        }
        let [tokens, _] = gradient.dims();
        Some(wrap(self.tiles(plain(gradient)?, tokens, false)))
    }

    /// The rows of the given indices, decoded, on the device. Indices must be below the number of rows.
    #[must_use]
    pub fn rows(&self, indices: &[u32]) -> Tensor<2> {
        let [words, scales, zeros] = self.parts();
        let y = empty_beside(&words, &[indices.len(), self.shape.cols]);
        let count = indices.len() * self.shape.cols;
        let dim = CubeDim::new_1d(LANES * ROWS);
        kernels::rows::launch(
            &y.client.clone(),
            cubes(count.div_ceil((LANES * ROWS) as usize), 1),
            dim,
            words_beside(indices, &y).into_buffer_arg(),
            words.into_buffer_arg(),
            scales.into_buffer_arg(),
            zeros.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            count,
            self.layout,
        );
        wrap(y)
    }

    /// All of it, decoded: 4 bytes per number.
    #[must_use]
    pub fn dense(&self) -> Tensor<2> {
        let all: Vec<u32> = (0..self.shape.rows as u32).collect();
        self.rows(&all)
    }

    fn few_rows(&self, x: CubeTensor, tokens: usize) -> CubeTensor {
        let [words, scales, zeros] = self.parts();
        let outputs = self.shape.rows;
        let y = empty_beside(&x, &[tokens, outputs]);
        kernels::few_rows::launch(
            &y.client.clone(),
            cubes(outputs.div_ceil(ROWS as usize), tokens as u32),
            CubeDim::new_2d(LANES, ROWS),
            x.into_buffer_arg(),
            words.into_buffer_arg(),
            scales.into_buffer_arg(),
            zeros.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            outputs,
            self.layout,
        );
        y
    }

    fn tiles(&self, x: CubeTensor, tokens: usize, transposed: bool) -> CubeTensor {
        let [words, scales, zeros] = self.parts();
        let Shape { rows, cols } = self.shape;
        let (depth, width) = if transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        let y = empty_beside(&x, &[tokens, width]);
        let along = |count: usize| count.div_ceil(TILE) as u32;
        kernels::tiles::launch(
            &y.client.clone(),
            CubeCount::Static(along(width), along(tokens), 1),
            CubeDim::new_2d(SIDE as u32, SIDE as u32),
            x.into_buffer_arg(),
            words.into_buffer_arg(),
            scales.into_buffer_arg(),
            zeros.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            tokens,
            depth,
            width,
            self.layout,
            transposed,
        );
        y
    }

    /// Whether products with many tokens decode all of it first. A head is not decoded: it is multiplied in many slices of
    /// positions, and may be larger than a buffer can be.
    fn is_decoded(&self) -> bool {
        self.precision == Precision::Float && self.shape.size() <= DECODED
    }

    /// Words, scales and zero points as buffers.
    fn parts(&self) -> [CubeTensor; 3] {
        [&self.words, &self.scales, &self.zeros].map(Clone::clone)
    }
}

/// Whether one of the formats of 16 bits holds all of some numbers exactly.
#[must_use]
pub fn fits_16_bits(numbers: &[f32]) -> bool {
    halves(numbers).is_some()
}

/// Numbers in the format of 16 bits that holds them exactly: `bf16` or `f16`.
fn halves(numbers: &[f32]) -> Option<(Kind, Vec<u16>)> {
    if numbers.iter().all(|x| x.to_bits().trailing_zeros() >= 16) {
        let upper = numbers.iter().map(|x| (x.to_bits() >> 16) as u16);
        return Some((Kind::Bfloat, upper.collect()));
    }
    let half = |&x: &f32| {
        let half = f16::from_f32(x);
        (half.is_finite() && half.to_f32().to_bits() == x.to_bits()).then(|| half.to_bits())
    };
    let halves = numbers.iter().map(half).collect::<Option<Vec<u16>>>()?;
    Some((Kind::Half, halves))
}

/// So many cubes and more, in two dimensions where one has too few, for each of some tokens.
fn cubes(count: usize, tokens: u32) -> CubeCount {
    let count = count as u32;
    let along = count.min(MOST);
    CubeCount::Static(along, count.div_ceil(along.max(1)), tokens)
}

/// Small numbers in one word, the first lowest, of so many bits each.
fn joined(numbers: impl Iterator<Item = u32>, bits: usize) -> u32 {
    let shifted = numbers.zip((0..).step_by(bits));
    shifted.fold(0, |word, (number, shift)| word | number << shift)
}
