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

use std::{f64::consts::TAU, ops::Range};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use compress_checkpoint::{Config, Llama3Scaling};

/// The angular speeds of a head's pairs of channels.
#[derive(Module, Debug)]
pub struct Rotary {
    /// Radians per position; d/2 of them.
    speeds: Vec<f64>,
}

/// Cosines and sines of the rotary embedding for a range of positions.
#[derive(Clone, Debug)]
pub struct RotaryAngles {
    cos: Tensor<4>, // 1 × 1 × time × d/2
    sin: Tensor<4>,
}

impl Rotary {
    /// The speeds of a config: its θ and, where it has one, Llama 3's scaling.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let d = config.head_size as f64;
        let speed = |pair: usize| config.rope_theta.powf(-2.0 * pair as f64 / d);
        let scale = |speed| {
            config
                .rope_scaling
                .map_or(speed, |scaling| slowed(speed, scaling))
        };
        Self {
            speeds: (0..config.head_size / 2).map(speed).map(scale).collect(),
        }
    }

    /// Cosines and sines for a range of positions, on a device.
    #[must_use]
    pub fn angles(&self, positions: Range<usize>, device: &Device) -> RotaryAngles {
        let shape = [1, 1, positions.len(), self.speeds.len()];
        let [cos, sin] = [f64::cos, f64::sin].map(|function| {
            let numbers = positions.clone().flat_map(|p| self.angle(p, function));
            Tensor::from_data(TensorData::new(numbers.collect::<Vec<_>>(), shape), device)
        });
        RotaryAngles { cos, sin }
    }

    /// The cosines, or the sines, of the d/2 pairs at one position.
    pub(crate) fn angle(
        &self,
        position: usize,
        function: fn(f64) -> f64,
    ) -> impl Iterator<Item = f32> {
        let angles = self.speeds.iter().map(move |speed| position as f64 * speed);
        angles.map(move |angle| function(angle) as f32)
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
        let half = x.dims()[3] / 2;
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
        Tensor::cat(vec![turned, second * cos + first * sin], 3)
    }
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
