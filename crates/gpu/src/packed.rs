//! A packed weight in the memory of a GPU.

use burn::tensor::{Device, Tensor};
use burn_cubecl::tensor::CubeTensor;
use compress_core::{Quantised, Scheme, Shape};
use cubecl::prelude::*;

use crate::{
    kernels::{self, LANES, Layout, ROWS, SIDE, TILE},
    tensor::{empty_beside, plain, words, words_beside, wrap},
};

/// Up to so many tokens are multiplied one by one; for more it pays to unpack the weight once for all.
const FEW: usize = 8;

/// Cubes along one dimension: what every adapter has.
const MOST: u32 = 65_535;

/// A weight of 2 to 8 bits, out × in, on a device: its packed words, its scales and its zero points.
#[derive(Clone, Debug)]
pub struct Packed {
    shape: Shape,
    scheme: Scheme,
    layout: Layout,
    words: CubeTensor,
    scales: CubeTensor,
    zeros: CubeTensor,
}

impl Packed {
    /// Copies a weight to a GPU; none for another device.
    #[must_use]
    pub fn new(weight: &Quantised, device: &Device) -> Option<Self> {
        let (shape, scheme) = (weight.shape(), weight.scheme());
        let fine = !weight.fine_scales().is_empty();
        let scales = if fine {
            weight.fine_scales().iter().map(|x| x.to_bits()).collect()
        } else {
            let pairs = weight.scales().chunks(2);
            pairs.map(|pair| joined(pair.iter().map(|x| u32::from(x.to_bits())), 16)).collect()
        };
        let zeros = weight.zeros().chunks(4);
        let zeros = zeros.map(|four| joined(four.iter().map(|x| u32::from(x.cast_unsigned())), 8));
        let zeros: Vec<u32> = zeros.collect();
        Some(Self {
            shape,
            scheme,
            layout: Layout {
                bits: scheme.bits.count(),
                group: scheme.group_of(shape.cols),
                inputs: shape.cols,
                fine,
                zeros: !zeros.is_empty(),
            },
            words: words(weight.words().to_vec(), device)?,
            scales: words(scales, device)?,
            zeros: words(zeros, device)?,
        })
    }

    /// Output features × input features.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Bits, group and zero points.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// X Wᵀ, tokens × out from tokens × in; none where X is not a plain tensor on a GPU.
    #[must_use]
    pub fn forward(&self, x: &Tensor<2>) -> Option<Tensor<2>> {
        let [tokens, _] = x.dims();
        let x = plain(x)?;
        let y = if tokens <= FEW {
            self.few_rows(x, tokens)
        } else {
            self.tiles(x, tokens, true)
        };
        Some(wrap(y))
    }

    /// G W, tokens × in from tokens × out; none where G is not a plain tensor on a GPU.
    #[must_use]
    pub fn backward(&self, gradient: &Tensor<2>) -> Option<Tensor<2>> {
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
        let (depth, width) = if transposed { (cols, rows) } else { (rows, cols) };
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

    /// Words, scales and zero points as buffers.
    fn parts(&self) -> [CubeTensor; 3] {
        [&self.words, &self.scales, &self.zeros].map(Clone::clone)
    }
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
