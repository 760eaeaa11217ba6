//! A block in five steps, each taking the residual stream and what enters the next weights a bit further.

use burn::tensor::Tensor;
use compress_core::Inlet;
use compress_models::{Block, FeedForward, Turns};

/// The residual stream, and the activations that the next weights read; 1 × time × width.
#[derive(Clone)]
pub struct State {
    /// The residual stream.
    pub residual: Tensor<3>,
    /// What enters the next weights.
    pub stream: Tensor<3>,
}

/// From an inlet, past the weights that read it, to the next one; from before the block to its first
/// where `from` is none. After the last, the stream is the residual stream that comes out.
pub fn advance(block: &Block, from: Option<Inlet>, state: State, turns: &Turns) -> State {
    let State { residual, stream } = state;
    let (a, f) = (&block.attention, &block.feed_forward);
    match from {
        None => State {
            stream: block.attention_norm.forward(residual.clone()),
            residual,
        },
        Some(Inlet::Attention) => {
            let [query, key, value] =
                [&a.query, &a.key, &a.value].map(|weight| weight.forward(stream.clone()));
            State {
                stream: a.mix(query, key, value, turns, None),
                residual,
            }
        }
        Some(Inlet::Output) => {
            let residual = residual + a.output.forward(stream);
            State {
                stream: block.feed_forward_norm.forward(residual.clone()),
                residual,
            }
        }
        Some(Inlet::FeedForward) => State {
            stream: FeedForward::gated(&f.gate.forward(stream.clone()), &f.up.forward(stream)),
            residual,
        },
        Some(Inlet::Down) => {
            let residual = residual + f.down.forward(stream);
            State {
                stream: residual.clone(),
                residual,
            }
        }
    }
}
