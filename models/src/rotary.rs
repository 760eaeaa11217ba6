//! Rotary position embedding: pairs of channels turn by an angle that grows with the position.
//!
//! Channel i of a head of size d is paired with channel i + d/2, as Hugging Face's weights expect,
//! and turns by `position · θ^(−2i/d)`. (burn's own pairs neighbours.)

use std::{f64::consts::TAU, ops::Range};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use compress_checkpoint::{Config, Llama3Scaling};

/// The turning speeds of a head's pairs of channels.
#[derive(Module, Debug)]
pub struct Rotary {
    /// Radians per position; d/2 of them.
    speeds: Vec<f64>,
}

/// The turn of every position of a piece of text.
#[derive(Clone, Debug)]
pub struct RotaryAngles {
    cos: Tensor<4>, // 1 × 1 × time × d/2
    sin: Tensor<4>,
}

impl Rotary {
    /// The speeds that a config asks for.
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

    /// The turns for a range of positions.
    #[must_use]
    pub fn angles(&self, positions: Range<usize>, device: &Device) -> RotaryAngles {
        let shape = [1, 1, positions.len(), self.speeds.len()];
        let [cos, sin] = [f64::cos, f64::sin].map(|function| {
            let numbers = positions.clone().flat_map(|p| self.angle(p, function));
            Tensor::from_data(TensorData::new(numbers.collect::<Vec<_>>(), shape), device)
        });
        RotaryAngles { cos, sin }
    }

    /// The cosines, or the sines, for one position: d/2.
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
    /// The first of these turns, for a shorter piece of text that starts where these do.
    #[must_use]
    pub fn first(&self, time: usize) -> Self {
        let first = |x: &Tensor<4>| x.clone().narrow(2, 0, time);
        Self {
            cos: first(&self.cos),
            sin: first(&self.sin),
        }
    }

    /// The turns that undo these; gradients go back through them.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            cos: self.cos.clone(),
            sin: self.sin.clone().neg(),
        }
    }

    /// Turns queries or keys, batch × heads × time × d.
    #[must_use]
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
        Tensor::cat(vec![turned, second * cos + first * sin], 3)
    }
}

/// Llama 3's scaling: slow pairs are slowed further, fast ones left alone, those between blended.
fn slowed(speed: f64, scaling: Llama3Scaling) -> f64 {
    let Llama3Scaling {
        factor,
        low,
        high,
        original_context,
    } = scaling;
    // How often the pair turns around within the original context.
    let angles = original_context * speed / TAU;
    let blend = ((angles - low) / (high - low)).clamp(0.0, 1.0);
    speed * (blend + (1.0 - blend) / factor)
}
