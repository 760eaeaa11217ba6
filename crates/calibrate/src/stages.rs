//! A block in five steps, each taking the residual stream and what enters the next weights a bit further.

use burn::tensor::Tensor;
use compress_core::InputKind;
use compress_models::{Block, FeedForward, RotaryAngles};

/// The residual stream, and the activations that the next weights read; 1 × time × width.
#[derive(Clone)]
pub struct State {
    /// The residual stream.
    pub residual: Tensor<3>,
    /// The input of the next weights.
    pub input: Tensor<3>,
}

/// From a layer input, past the weights that read it, to the next one; from before the block to its first
/// where `from` is none. After the last, the input is the residual stream that comes out.
pub fn advance(
    block: &Block,
    from: Option<InputKind>,
    state: State,
    angles: &RotaryAngles,
) -> State {
    let State { residual, input } = state;
    let (a, f) = (&block.attention, &block.feed_forward);
    match from {
        None => State {
            input: block.attention_norm.forward(residual.clone()),
            residual,
        },
        Some(InputKind::Attention) => {
            let [query, key, value] =
                [&a.query, &a.key, &a.value].map(|weight| weight.forward(input.clone()));
            State {
                input: a.attend(query, key, value, angles, None),
                residual,
            }
        }
        Some(InputKind::Output) => {
            let residual = residual + a.output.forward(input);
            State {
                input: block.feed_forward_norm.forward(residual.clone()),
                residual,
            }
        }
        Some(InputKind::FeedForward) => State {
            input: FeedForward::gated(&f.gate.forward(input.clone()), &f.up.forward(input)),
            residual,
        },
        Some(InputKind::Down) => {
            let residual = residual + f.down.forward(input);
            State {
                input: residual.clone(),
                residual,
            }
        }
    }
}
