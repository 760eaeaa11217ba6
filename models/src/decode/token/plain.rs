//! A network's weights as plain numbers, for the kernels of decoding.
//!
//! Nothing is copied: layers hold handles to burn's tensors, or to packed weights. Constructors give `None` where a
//! tensor is not contiguous `f32` on the CPU, or is under autodiff.

use std::{ops::Range, sync::Arc};

use burn::{backend::flex::FlexTensor, module::Param, nn::RmsNorm, tensor::Tensor};
use compress_core::Quantised;
use compress_numerics::{
    kernels::{multiply_rows, rms_norm},
    packed::{Packed, Spread},
};

use crate::{
    Block, Decoder, Linear, Weight,
    host::{numbers, plain},
    linear::Sum,
    store,
};

/// A network's blocks, and the norm after them.
#[derive(Debug)]
pub struct Network {
    pub blocks: Vec<Layers>,
    pub norm: Norm,
}

/// The linear layers and norms of a block.
#[derive(Debug)]
pub struct Layers {
    pub attention_norm: Norm,
    pub query: Arc<Layer>,
    pub key: Arc<Layer>,
    pub value: Arc<Layer>,
    pub query_norm: Option<Norm>,
    pub key_norm: Option<Norm>,
    pub output: Arc<Layer>,
    pub feed_forward_norm: Norm,
    pub gate: Arc<Layer>,
    pub up: Arc<Layer>,
    pub down: Arc<Layer>,
}

/// y = W x + b with W = base + up · down, out × in; a layer has a base, a pair, or both.
#[derive(Debug)]
pub struct Layer {
    /// out × in; or the atoms that it is mixed of, S·out × in.
    base: Option<Store>,
    /// The S coefficients of atoms; none of a base that is one matrix.
    mixture: Vec<f32>,
    pair: Option<Pair>,
    bias: Option<Floats>,
    /// Output features.
    outputs: usize,
}

/// One matrix, as floats or packed integers.
#[derive(Debug)]
enum Store {
    Float(Floats),
    Packed(Arc<Quantised>),
}

/// A low-rank pair of factors.
#[derive(Debug)]
struct Pair {
    up: Store,   // out × r
    down: Store, // r × in
    rank: usize,
}

/// A vector that enters one or several layers, prepared once for the formats of all of them.
pub struct Input {
    /// The vector itself, for float weights.
    numbers: Vec<f32>,
    /// The vector rearranged for packed weights, one for each format among them.
    spread: Vec<((usize, usize), Spread)>,
}

/// A root-mean-square norm, over a whole vector or over each head in it.
#[derive(Debug)]
pub struct Norm {
    /// As many numbers as a run has: hidden, or d.
    gain: Floats,
    epsilon: f32,
}

/// Contiguous numbers on the CPU; vectors, and matrices row after row.
#[derive(Debug)]
struct Floats(FlexTensor);

impl Network {
    /// None where the network is not on the CPU, or is differentiated.
    pub fn of(decoder: &Decoder) -> Option<Self> {
        Some(Self {
            norm: Norm::of(&decoder.norm)?,
            blocks: decoder
                .blocks
                .iter()
                .map(Layers::of)
                .collect::<Option<_>>()?,
        })
    }
}

impl Layers {
    /// All layers of a block; none as soon as one is not plain.
    fn of(block: &Block) -> Option<Self> {
        let (attention, feed_forward) = (&block.attention, &block.feed_forward);
        let layer = |linear: &Linear| Layer::of(&linear.weight, linear.bias.as_ref()).map(Arc::new);
        Some(Self {
            attention_norm: Norm::of(&block.attention_norm)?,
            query: layer(&attention.query)?,
            key: layer(&attention.key)?,
            value: layer(&attention.value)?,
            query_norm: perhaps(attention.query_norm.as_ref(), Norm::of)?,
            key_norm: perhaps(attention.key_norm.as_ref(), Norm::of)?,
            output: layer(&attention.output)?,
            feed_forward_norm: Norm::of(&block.feed_forward_norm)?,
            gate: layer(&feed_forward.gate)?,
            up: layer(&feed_forward.up)?,
            down: layer(&feed_forward.down)?,
        })
    }

    /// Numbers in its seven weights, packed ones included: how much work a token is.
    pub fn size(&self) -> usize {
        let Self {
            query,
            key,
            value,
            output,
            gate,
            up,
            down,
            ..
        } = self;
        [query, key, value, output, gate, up, down]
            .map(|layer| layer.size())
            .iter()
            .sum()
    }
}

impl Layer {
    /// None where the weight is not on the CPU, or is differentiated.
    pub fn of(weight: &Weight, bias: Option<&Param<Tensor<1>>>) -> Option<Self> {
        let mut mixture = Vec::new();
        let (base, pair) = match weight {
            Weight::Whole(store) => (Some(Store::of(store)?), None),
            Weight::Shared(shared) => {
                mixture = shared.numbers_of_coefficients()?;
                let residual = perhaps(shared.residual.as_ref(), Pair::of)?;
                (Some(Store::of(&shared.atoms)?), residual)
            }
            Weight::LowRank(pair) => (None, Some(Pair::of(pair)?)),
            Weight::Sum(Sum { base, correction }) => {
                (Some(Store::of(base)?), Some(Pair::of(correction)?))
            }
        };
        Some(Self {
            base,
            mixture,
            pair,
            bias: perhaps(bias, Floats::of)?,
            outputs: weight.shape().rows,
        })
    }

    /// Output features, m.
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// The rank of its pair; 0 where it has none.
    pub fn rank(&self) -> usize {
        self.pair.as_ref().map_or(0, |pair| pair.rank)
    }

    /// Some rows of down · x, of r in all.
    pub fn shrink(&self, x: &Input, rows: Range<usize>) -> Vec<f32> {
        let pair = self.pair.as_ref();
        pair.map_or_else(Vec::new, |pair| pair.down.multiply(x, rows))
    }

    /// down · x, prepared for `up`'s format; empty where there is no pair.
    pub fn inner(&self, numbers: Vec<f32>) -> Input {
        Input::of(numbers, self.pair.as_ref().map(|pair| &pair.up))
    }

    /// Some rows of W x + b, given `inner` = down · x.
    pub fn multiply(&self, x: &Input, inner: &Input, rows: Range<usize>) -> Vec<f32> {
        let mut out = match &self.base {
            Some(base) if self.mixture.is_empty() => base.multiply(x, rows.clone()),
            Some(atoms) => self.mixed(atoms, x, &rows),
            None => vec![0.0; rows.len()],
        };
        if let Some(Pair { up, .. }) = &self.pair {
            add(&mut out, &up.multiply(inner, rows.clone()));
        }
        if let Some(bias) = &self.bias {
            add(&mut out, &bias.numbers()[rows]);
        }
        out
    }

    /// Σₛ cₛ Dₛ x for some rows: of one token no matrix is mixed.
    fn mixed(&self, atoms: &Store, x: &Input, rows: &Range<usize>) -> Vec<f32> {
        let mut sums = vec![0.0; rows.len()];
        for (atom, coefficient) in self.mixture.iter().enumerate() {
            let first = atom * self.outputs;
            let part = atoms.multiply(x, first + rows.start..first + rows.end);
            let sums = sums.iter_mut().zip(part);
            sums.for_each(|(sum, x)| *sum += coefficient * x);
        }
        sums
    }

    /// Numbers in its weight, over base and pair.
    pub fn size(&self) -> usize {
        let pair = |pair: &Pair| pair.up.size() + pair.down.size();
        self.base.as_ref().map_or(0, Store::size) + self.pair.as_ref().map_or(0, pair)
    }
}

impl Store {
    /// A handle to a matrix of the network.
    fn of(store: &store::Store) -> Option<Self> {
        match store {
            store::Store::Float(matrix) => Floats::of(matrix).map(Self::Float),
            store::Store::Packed(packed) => {
                let matrix = packed.on_host()?;
                // Refused here, once, so that products need not fail later.
                matrix.packed().ok()?;
                Some(Self::Packed(matrix.clone()))
            }
        }
    }

    /// Numbers in the matrix.
    fn size(&self) -> usize {
        match self {
            Self::Float(weight) => weight.numbers().len(),
            Self::Packed(weight) => weight.shape().size(),
        }
    }

    /// The view that the packed kernels take; none for floats.
    fn packed(&self) -> Option<Packed<'_>> {
        match self {
            Self::Float(_) => None,
            Self::Packed(weight) => weight.packed().ok(),
        }
    }

    /// Some rows of the matrix times x.
    fn multiply(&self, x: &Input, rows: Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; rows.len()];
        if let Self::Float(weight) = self {
            return weight.multiply(&x.numbers, rows);
        }
        let Some(weight) = self.packed() else {
            return out;
        };
        // Formats without a kernel of their own are decoded row by row.
        if let Some(x) = x.spread(weight.format()) {
            weight.multiply(x, rows.start, &mut out);
        } else {
            for (row, out) in rows.zip(out.chunks_exact_mut(1)) {
                multiply_rows(&weight.row(row), &x.numbers, out);
            }
        }
        out
    }
}

impl Input {
    /// Prepared for the first products of some layers: base · x and down · x.
    pub fn new<const N: usize>(numbers: Vec<f32>, layers: &[Arc<Layer>; N]) -> Self {
        let bases = layers.iter().flat_map(|layer| {
            let down = layer.pair.as_ref().map(|pair| &pair.down);
            layer.base.iter().chain(down)
        });
        Self::of(numbers, bases)
    }

    /// Prepared for some matrices, once per packed format among them.
    fn of<'a>(numbers: Vec<f32>, bases: impl IntoIterator<Item = &'a Store>) -> Self {
        let mut input = Self {
            numbers,
            spread: Vec::new(),
        };
        for weight in bases.into_iter().filter_map(Store::packed) {
            if input.spread(weight.format()).is_none()
                && let Some(x) = weight.spread(&input.numbers)
            {
                input.spread.push((weight.format(), x));
            }
        }
        input
    }

    /// Its length.
    pub const fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The rearranged vector for a packed format; none where the format has no kernel.
    fn spread(&self, format: (usize, usize)) -> Option<&Spread> {
        let mut all = self.spread.iter();
        all.find(|(own, _)| *own == format).map(|(_, x)| x)
    }
}

impl Pair {
    /// Handles to both factors.
    fn of(store::Pair { up, down }: &store::Pair) -> Option<Self> {
        let rank = down.shape().rows;
        let (up, down) = (Store::of(up)?, Store::of(down)?);
        Some(Self { up, down, rank })
    }
}

impl Norm {
    fn of(norm: &RmsNorm) -> Option<Self> {
        Some(Self {
            gain: Floats::of(&norm.gamma)?,
            epsilon: norm.epsilon as f32,
        })
    }

    /// The norm of each run of as many numbers as the gain has: the whole vector, or head after head.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let gain = self.gain.numbers();
        let runs = x.chunks_exact(gain.len().max(1));
        runs.flat_map(|x| rms_norm(x, gain, self.epsilon)).collect()
    }
}

impl Floats {
    /// None where the parameter is not contiguous `f32` on the CPU.
    fn of<const D: usize>(parameter: &Param<Tensor<D>>) -> Option<Self> {
        let tensor = plain(&parameter.val())?;
        numbers(&tensor).is_some().then_some(Self(tensor))
    }

    /// Rows of a matrix, with as many columns as x has numbers, times x.
    fn multiply(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; rows.len()];
        multiply_rows(&self.numbers()[rows.start * x.len()..], x, &mut out);
        out
    }

    /// The numbers themselves; `of` made sure that there are some.
    fn numbers(&self) -> &[f32] {
        numbers(&self.0).unwrap_or_default()
    }
}

/// x ← x + y
pub fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Lifts a fallible conversion over an optional part: an absent part is `Some(None)`, a failed one `None`.
#[expect(clippy::option_option, reason = "absent is not failed")]
fn perhaps<'a, T, R>(x: Option<&'a T>, of: impl FnOnce(&'a T) -> Option<R>) -> Option<Option<R>> {
    x.map_or(Some(None), |x| of(x).map(Some))
}
