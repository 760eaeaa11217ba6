//! Rotary position embedding (Su et al., arXiv 2104.09864): pairs of channels turn by an angle that grows with the
//! position.
//!
//! ```text
//! (x_i, x_{i+d/2}) ← (x_i cos φ − x_{i+d/2} sin φ, x_{i+d/2} cos φ + x_i sin φ)
//! φ = position · θ^(−2i/d)        i < d/2, d the size of a head
//! ```
//!
//! Channel i is paired with channel i + d/2, as Hugging Face's weights expect; burn's own embedding pairs neighbours.
//! Angles are computed in `f64`, and rounded to `f32` as cosines and sines only.

use std::{borrow::Cow, f64::consts::TAU, ops::Range};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use compress_checkpoint::{Config, Llama3Scaling, Rope, RopeScaling, YarnScaling};

use compress_numerics::kernels::rotate_halves;

use crate::{
    Result,
    host::{Strided, numbers, plain, tensor},
};

/// The angular speeds of a head's pairs of channels.
#[derive(Module, Debug)]
pub struct Rotary {
    /// Radians per position; d/2 of them.
    speeds: Vec<f64>,
    /// What they follow from.
    #[module(skip)]
    rope: Rope,
}

/// Cosines and sines of the rotary embedding for a range of positions.
#[derive(Clone, Debug)]
pub struct RotaryAngles {
    cos: Tensor<4>, // 1 × 1 × time × d/2
    sin: Tensor<4>,
}

impl Rotary {
    /// The speeds of a config: those of its θ, scaled as it says. Fails where its scaling is not implemented.
    pub fn new(config: &Config) -> Result<Self> {
        let rope = config.rope()?;
        let speeds = scaled(rope, config.head_size);
        Ok(Self { speeds, rope })
    }

    /// The speeds for a text of `length` tokens.
    fn at(&self, length: usize) -> Cow<'_, [f64]> {
        match self.rope.scaling {
            Some(RopeScaling::Dynamic { factor, context }) if length as f64 > context => {
                let d = 2.0 * self.speeds.len() as f64;
                let growth = factor * length as f64 / context - (factor - 1.0);
                let theta = self.rope.theta * growth.powf(d / (d - 2.0));
                speeds(theta, self.speeds.len()).into()
            }
            _ => Cow::Borrowed(&self.speeds),
        }
    }

    /// Cosines and sines for a range of positions, on a device.
    #[must_use]
    pub fn angles(&self, positions: Range<usize>, device: &Device) -> RotaryAngles {
        let speeds = self.at(positions.end);
        let shape = [1, 1, positions.len(), speeds.len()];
        let [cos, sin] = [f64::cos, f64::sin].map(|function| {
            let numbers = positions
                .clone()
                .flat_map(|p| self.turned(&speeds, p, function));
            Tensor::from_data(TensorData::new(numbers.collect::<Vec<_>>(), shape), device)
        });
        RotaryAngles { cos, sin }
    }

    /// The cosines, or the sines, of the d/2 pairs at the last position of a text.
    pub(crate) fn angle(&self, position: usize, function: fn(f64) -> f64) -> Vec<f32> {
        let speeds = self.at(position + 1);
        self.turned(&speeds, position, function).collect()
    }

    fn turned(
        &self,
        speeds: &[f64],
        position: usize,
        function: fn(f64) -> f64,
    ) -> impl Iterator<Item = f32> {
        // YaRN sharpens the scores so.
        let factor = match self.rope.scaling {
            Some(RopeScaling::Yarn(scaling)) => scaling.attention_factor,
            _ => 1.0,
        };
        let angles = speeds.iter().map(move |speed| position as f64 * speed);
        angles.map(move |angle| (function(angle) * factor) as f32)
    }
}

impl RotaryAngles {
    /// Those of the first `time` positions, for a shorter text that starts at the same position.
    #[must_use]
    pub fn first(&self, time: usize) -> Self {
        let first = |x: &Tensor<4>| x.clone().narrow(2, 0, time);
        Self {
            cos: first(&self.cos),
            sin: first(&self.sin),
        }
    }

    /// The opposite rotation: the transpose of this one, by which gradients go back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            cos: self.cos.clone(),
            sin: self.sin.clone().neg(),
        }
    }

    /// Rotates queries or keys, batch × heads × time × d, of these positions.
    #[must_use]
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some(turned) = self.apply_on_cpu(&x) {
            return turned;
        }
        let half = x.dims()[3] / 2;
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
        Tensor::cat(vec![turned, second * cos + first * sin], 3)
    }

    /// The same in one sweep over the numbers, which may lie as they were split from a projection; none for a GPU, and
    /// under autodiff.
    fn apply_on_cpu(&self, x: &Tensor<4>) -> Option<Tensor<4>> {
        let [batch, heads, time, size] = x.dims();
        // Angles of other heads or positions are left to burn, which says what is wrong.
        let pairs = size / 2;
        if pairs == 0 || size % 2 != 0 || self.cos.dims() != [1, 1, time, pairs] {
            return None;
        }
        let (plain_x, cos, sin) = (plain(x)?, plain(&self.cos)?, plain(&self.sin)?);
        let (rows, cos, sin) = (Strided::of(&plain_x)?, numbers(&cos)?, numbers(&sin)?);
        let mut turned = Vec::with_capacity(batch * heads * time * size);
        for (text, head) in (0..batch).flat_map(|text| (0..heads).map(move |head| (text, head))) {
            let rows = rows.rows(text, head, &(0..time), size)?;
            let angles = cos.chunks_exact(pairs).zip(sin.chunks_exact(pairs));
            for (position, (cos, sin)) in (0..time).zip(angles) {
                let start = turned.len();
                turned.extend_from_slice(rows.row(position));
                rotate_halves(&mut turned[start..], cos, sin);
            }
        }
        Some(tensor(turned, [batch, heads, time, size]))
    }
}

/// The speeds for heads of a size, scaled; those of dynamic scaling as they are up to its context.
fn scaled(rope: Rope, size: usize) -> Vec<f64> {
    let plain = speeds(rope.theta, size / 2).into_iter();
    match rope.scaling {
        None | Some(RopeScaling::Dynamic { .. }) => plain.collect(),
        Some(RopeScaling::Linear { factor }) => plain.map(|speed| speed / factor).collect(),
        Some(RopeScaling::Llama3(scaling)) => plain.map(|speed| slowed(speed, scaling)).collect(),
        Some(RopeScaling::Yarn(scaling)) => plain
            .zip(slow_shares(rope.theta, size, scaling))
            .map(|(speed, slow)| speed * (1.0 - slow + slow / scaling.factor))
            .collect(),
    }
}

/// θ^(−2i/d) for the d/2 pairs of a head.
fn speeds(theta: f64, pairs: usize) -> Vec<f64> {
    let speed = |pair: usize| theta.powf(-(pair as f64) / pairs as f64);
    (0..pairs).map(speed).collect()
}

/// By how much of the way each pair is slowed down under `YaRN`: 0 where it turns more than `beta_fast` times within
/// the original context, 1 where it turns less than `beta_slow` times, and a straight line between, by the pair's number.
fn slow_shares(theta: f64, size: usize, scaling: YarnScaling) -> impl Iterator<Item = f64> {
    let d = size as f64;
    // The number of the pair that turns so often.
    let pair =
        |turns: f64| d * (scaling.original_context / (turns * TAU)).ln() / (2.0 * theta.ln());
    let (mut first, mut last) = (pair(scaling.beta_fast), pair(scaling.beta_slow));
    if scaling.truncate {
        (first, last) = (first.floor(), last.ceil());
    }
    // transformers' bound of the last is by channels, not by pairs.
    let (first, last) = (first.max(0.0), last.min(d - 1.0));
    // A step where both are one, as the division needs a width.
    let width = if last > first { last - first } else { 0.001 };
    (0..size / 2).map(move |pair| ((pair as f64 - first) / width).clamp(0.0, 1.0))
}

/// Llama 3's scaling of a speed: pairs that turn less than `low` times within the original context become slower by
/// `factor`, those above `high` stay, and those between are blended.
fn slowed(speed: f64, scaling: Llama3Scaling) -> f64 {
    let Llama3Scaling {
        factor,
        low,
        high,
        original_context,
    } = scaling;
    // Rotations of the pair within the original context.
    let angles = original_context * speed / TAU;
    let blend = ((angles - low) / (high - low)).clamp(0.0, 1.0);
    speed * (blend + (1.0 - blend) / factor)
}
