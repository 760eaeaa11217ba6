//! The weights of a network as plain numbers, where they are on the CPU.

use std::ops::Range;

use burn::{backend::flex::FlexTensor, module::Param, nn::RmsNorm, tensor::Tensor};
use compress_core::{
    multiply_rows,
    packed::{Packed, Spread},
    rms_norm,
};

use crate::{
    Attention, Block, Decoder, Linear, Weight,
    host::{numbers, plain},
    linear::{LowRank, Rounded, RoundedPair},
};

/// A network's blocks, and the norm after them.
pub struct Network<'a> {
    pub blocks: Vec<Layers<'a>>,
    pub norm: Norm,
}

/// The layers of a block.
pub struct Layers<'a> {
    pub attention_norm: Norm,
    pub query: Layer<'a>,
    pub key: Layer<'a>,
    pub value: Layer<'a>,
    pub query_norm: Option<Norm>,
    pub key_norm: Option<Norm>,
    pub attention: &'a Attention,
    pub output: Layer<'a>,
    pub feed_forward_norm: Norm,
    pub gate: Layer<'a>,
    pub up: Layer<'a>,
    pub down: Layer<'a>,
}

/// y = W x + b, with W = base + up · down; of these, what there is.
pub struct Layer<'a> {
    base: Option<Base<'a>>,
    pair: Option<Pair<'a>>,
    bias: Option<Floats>,
    outputs: usize,
}

enum Base<'a> {
    Whole(Floats),
    Rounded(Packed<'a>),
}

struct Pair<'a> {
    up: Base<'a>,   // out × r
    down: Base<'a>, // r × in
    rank: usize,
}

/// What goes into a layer.
pub struct Input {
    numbers: Vec<f32>,
    /// The same for packed weights of each format.
    spread: Vec<((usize, usize), Spread)>,
}

/// A norm of whole vectors, or of heads.
pub struct Norm {
    gain: Floats,
    epsilon: f32,
}

/// Numbers that lie one after the other.
struct Floats(FlexTensor);

impl<'a> Network<'a> {
    /// None where the network is not on the CPU, or is differentiated.
    pub fn of(decoder: &'a Decoder) -> Option<Self> {
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

impl<'a> Layers<'a> {
    fn of(block: &'a Block) -> Option<Self> {
        let (attention, feed_forward) = (&block.attention, &block.feed_forward);
        Some(Self {
            attention_norm: Norm::of(&block.attention_norm)?,
            query: Layer::of(&attention.query)?,
            key: Layer::of(&attention.key)?,
            value: Layer::of(&attention.value)?,
            query_norm: perhaps(attention.query_norm.as_ref(), Norm::of)?,
            key_norm: perhaps(attention.key_norm.as_ref(), Norm::of)?,
            attention,
            output: Layer::of(&attention.output)?,
            feed_forward_norm: Norm::of(&block.feed_forward_norm)?,
            gate: Layer::of(&feed_forward.gate)?,
            up: Layer::of(&feed_forward.up)?,
            down: Layer::of(&feed_forward.down)?,
        })
    }

    /// How many numbers its weights are, packed ones included.
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
            .map(Layer::size)
            .iter()
            .sum()
    }
}

impl<'a> Layer<'a> {
    fn of(linear: &'a Linear) -> Option<Self> {
        let (base, pair) = match &linear.weight {
            Weight::Whole(weight) => (Some(Base::Whole(Floats::of(weight)?)), None),
            Weight::LowRank(pair) => (None, Some(Pair::of(pair)?)),
            Weight::RoundedPair(RoundedPair { up, down }) => {
                let pair = Pair {
                    up: Base::Rounded(up.packed().ok()?),
                    down: Base::Rounded(down.packed().ok()?),
                    rank: down.shape().rows,
                };
                (None, Some(pair))
            }
            Weight::Rounded(Rounded { base, correction }) => {
                let pair = perhaps(correction.as_ref(), Pair::of)?;
                (Some(Base::Rounded(base.packed().ok()?)), pair)
            }
        };
        Some(Self {
            base,
            pair,
            bias: perhaps(linear.bias.as_ref(), Floats::of)?,
            outputs: linear.weight.shape().rows,
        })
    }

    /// Output features.
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// How many numbers are between its two thin factors; 0 where there are none.
    pub fn rank(&self) -> usize {
        self.pair.as_ref().map_or(0, |pair| pair.rank)
    }

    /// Some numbers of down · x.
    pub fn shrink(&self, x: &Input, rows: Range<usize>) -> Vec<f32> {
        let pair = self.pair.as_ref();
        pair.map_or_else(Vec::new, |pair| pair.down.multiply(x, rows))
    }

    /// Some outputs, given down · x.
    pub fn multiply(&self, x: &Input, inner: &[f32], rows: Range<usize>) -> Vec<f32> {
        let mut out = match &self.base {
            Some(base) => base.multiply(x, rows.clone()),
            None => vec![0.0; rows.len()],
        };
        if let Some(Pair { up, .. }) = &self.pair {
            let inner = Input::of(inner.to_vec(), [up]);
            add(&mut out, &up.multiply(&inner, rows.clone()));
        }
        if let Some(bias) = &self.bias {
            add(&mut out, &bias.numbers()[rows]);
        }
        out
    }

    fn size(&self) -> usize {
        let pair = |pair: &Pair<'_>| pair.up.size() + pair.down.size();
        self.base.as_ref().map_or(0, Base::size) + self.pair.as_ref().map_or(0, pair)
    }
}

impl Base<'_> {
    /// How many numbers it has.
    fn size(&self) -> usize {
        match self {
            Self::Whole(weight) => weight.numbers().len(),
            Self::Rounded(weight) => weight.shape().size(),
        }
    }

    fn multiply(&self, x: &Input, rows: Range<usize>) -> Vec<f32> {
        let weight = match self {
            Self::Whole(weight) => return weight.multiply(&x.numbers, rows),
            Self::Rounded(weight) => weight,
        };
        let mut out = vec![0.0; rows.len()];
        if let Some((_, spread)) = x
            .spread
            .iter()
            .find(|(format, _)| *format == weight.format())
        {
            weight.multiply(spread, rows.start, &mut out);
        } else {
            for (row, out) in rows.zip(out.chunks_exact_mut(1)) {
                multiply_rows(&weight.row(row), &x.numbers, out);
            }
        }
        out
    }
}

impl Input {
    /// Ready for some layers.
    pub fn new<const N: usize>(numbers: Vec<f32>, layers: [&Layer<'_>; N]) -> Self {
        let bases = layers.iter().flat_map(|layer| {
            let down = layer.pair.as_ref().map(|pair| &pair.down);
            layer.base.iter().chain(down)
        });
        Self::of(numbers, bases)
    }

    /// Ready for some matrices.
    fn of<'a>(numbers: Vec<f32>, bases: impl IntoIterator<Item = &'a Base<'a>>) -> Self {
        let mut spread: Vec<((usize, usize), Spread)> = Vec::new();
        for base in bases {
            if let Base::Rounded(weight) = base
                && spread.iter().all(|(format, _)| *format != weight.format())
                && let Some(x) = weight.spread(&numbers)
            {
                spread.push((weight.format(), x));
            }
        }
        Self { numbers, spread }
    }
}

impl Pair<'_> {
    fn of(LowRank { up, down }: &LowRank) -> Option<Self> {
        let rank = down.dims()[0];
        let whole = |part| Floats::of(part).map(Base::Whole);
        let (up, down) = (whole(up)?, whole(down)?);
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

    /// Each run of as many numbers as the norm is made for.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let gain = self.gain.numbers();
        let runs = x.chunks_exact(gain.len().max(1));
        runs.flat_map(|x| rms_norm(x, gain, self.epsilon)).collect()
    }
}

impl Floats {
    fn of<const D: usize>(parameter: &Param<Tensor<D>>) -> Option<Self> {
        let tensor = plain(&parameter.val())?;
        numbers(&tensor).is_some().then_some(Self(tensor))
    }

    /// Some rows of a matrix, with as many columns as x has numbers, times x.
    fn multiply(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; rows.len()];
        multiply_rows(&self.numbers()[rows.start * x.len()..], x, &mut out);
        out
    }

    fn numbers(&self) -> &[f32] {
        numbers(&self.0).unwrap_or_default()
    }
}

/// x ← x + y
pub fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// What may be absent, but not fail.
#[expect(clippy::option_option, reason = "absent is not failed")]
fn perhaps<'a, T, R>(x: Option<&'a T>, of: impl FnOnce(&'a T) -> Option<R>) -> Option<Option<R>> {
    x.map_or(Some(None), |x| of(x).map(Some))
}
