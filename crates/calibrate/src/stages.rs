//! A block in five steps, from one layer input to the next.

use burn::tensor::Tensor;
use compress_core::InputKind;
use compress_models::{Block, FeedForward, RotaryAngles, rms_norm};

/// The activations of one window between two steps; both 1 × time × width.
#[derive(Clone)]
pub struct State {
    /// The residual stream, of width hidden.
    pub residual: Tensor<3>,
    /// The next layer input, of its own width.
    pub input: Tensor<3>,
}

/// One step: from a layer input past the weights that read it to the next layer input, or, where `from` is none, from
/// the residual stream before the block to its first layer input. After `down`, `input` is the residual stream behind
/// the block.
///
/// All five steps together are [`Block::forward`], in the same order of operations.
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
            input: rms_norm(&block.attention_norm, residual.clone()),
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
                input: rms_norm(&block.feed_forward_norm, residual.clone()),
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
