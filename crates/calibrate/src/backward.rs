//! The backward pass through one block: from the gradient behind it to that before it, and to those by the output of
//! each of its weights.
//!
//! ```text
//! ∂L/∂x = ∂L/∂y · W                          for each linear weight
//! ∂L/∂h = ∂L/∂h' + norm'(h)ᵀ ∂L/∂norm(h)     for each residual connection
//! ```
//!
//! Needs the block's trace. Linear weights take one product each, attention and the gate a kernel; burn's autodiff is
//! used for norms only, so that no graph is larger than that. Costs about as many products as the forward pass, and
//! in attention two and a half times as many.

use burn::tensor::Tensor;
use compress_core::Role;
use compress_models::{
    Block, Decoder, FeedForward, RotaryAngles, rms_norm, to_device, to_host, vjp,
};
use compress_numerics::kernels::exponentiate;

use crate::{BlockTrace, Result};

/// The gradients of one window's loss by the activations of a block, each 1 × time × width.
pub struct Gradients {
    /// By the residual stream before the block.
    pub residual: Tensor<3>,
    /// By the output of each weight, in the order of [`Role::ALL`]: the g of G = Σ g gᵀ.
    pub outputs: [Tensor<3>; Role::ALL.len()],
    /// By the output of each norm of the residual stream, that of attention first; tuning trains norms by these.
    pub norms: [Tensor<3>; 2],
    /// By the outputs of the norms of query and key heads; by the outputs of query and key where there are none.
    pub head_norms: [Tensor<3>; 2],
}

/// The backward pass through a block; `next` is the gradient by the residual stream behind it, 1 × time × hidden.
#[must_use]
pub fn backward(
    block: &Block,
    trace: &BlockTrace,
    angles: &RotaryAngles,
    next: Tensor<3>,
) -> Gradients {
    let (a, f) = (&block.attention, &block.feed_forward);
    let gated = f.down.backward(next.clone());
    let [gate, up] = FeedForward::gated_backward(&trace.branches, &gated);
    let normed = f.gate.backward(gate.clone()) + f.up.backward(up.clone());
    let norm = &block.feed_forward_norm;
    // The norm's share of the gradient; the residual connection passes `next` on as it is.
    let [bent] = vjp([trace.middle.clone()], normed.clone(), |[x]| {
        norm.forward(x)
    });
    let feed_forward_normed = normed;
    let middle = next.clone() + bent;

    let attended = a.output.backward(middle.clone());
    let attend = a.attend_backward(trace.projections.clone(), angles, attended);
    let [query, key, value] = attend.projections;
    let normed = a.query.backward(query.clone())
        + a.key.backward(key.clone())
        + a.value.backward(value.clone());
    let norm = &block.attention_norm;
    let [bent] = vjp([trace.residual.clone()], normed.clone(), |[x]| {
        norm.forward(x)
    });
    Gradients {
        residual: middle.clone() + bent,
        // Output and down add to the residual stream: the gradient by their outputs is that by the stream.
        outputs: [query, key, value, middle, gate, up, next],
        norms: [normed, feed_forward_normed],
        head_norms: attend.normed,
    }
}

/// A window's mean next-token loss in nats, and its gradient by the residual stream behind the last block, 1 × time ×
/// hidden.
///
/// `ends` needs the last norm and the head only. Fails where the device does.
pub fn of_loss(ends: &Decoder, last: Tensor<3>, window: &[u32]) -> Result<(f64, Tensor<3>)> {
    let (loss, by_normed) = of_loss_after_norm(ends, &last, window)?;
    let [gradient] = vjp([last], by_normed, |[x]| ends.norm.forward(x));
    Ok((loss, gradient))
}

/// The same loss, and its gradient by the output of the last norm, 1 × time × hidden.
pub fn of_loss_after_norm(
    ends: &Decoder,
    last: &Tensor<3>,
    window: &[u32],
) -> Result<(f64, Tensor<3>)> {
    let [_, time, width] = last.dims();
    let hidden = rms_norm(&ends.norm, last.clone()).reshape([time, width]);
    let predicting = time - 1; // the last token predicts nothing that is known
    let mut slices = Vec::new();
    let mut loss = 0.0;
    // Logits exist for one slice of positions at a time: those of a window may take a gigabyte.
    for slice in ends.slices(predicting) {
        let logits = ends.logits(hidden.clone().narrow(0, slice.start, slice.len()));
        let targets = window.get(slice.start + 1..).unwrap_or_default();
        let (surprise, by_logits) = softmax_minus_truth(logits, targets, predicting as f32)?;
        loss += surprise;
        slices.push(ends.logits_backward(by_logits));
    }
    // The last position has no target, and a gradient of 0.
    slices.push(Tensor::zeros([1, width], &last.device()));
    let by_normed = Tensor::cat(slices, 0).reshape([1, time, width]);
    Ok((loss / predicting as f64, by_normed))
}

/// Σ −ln softmax(logits) at the targets, and its gradient by logits, (softmax(logits) − one at the target) / count,
/// both for logits of positions × vocabulary.
fn softmax_minus_truth(logits: Tensor<2>, targets: &[u32], count: f32) -> Result<(f64, Tensor<2>)> {
    let ([rows, vocabulary], device) = (logits.dims(), logits.device());
    let mut numbers = to_host(logits)?;
    let mut surprise = 0.0;
    for (row, &target) in numbers.chunks_exact_mut(vocabulary).zip(targets) {
        // The maximum is taken off, so that no exponential overflows; the loss is the same.
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|x| *x -= most);
        let true_logit = row.get(target as usize).copied().unwrap_or_default();
        exponentiate(row);
        // In f64: of a large vocabulary, f32 would lose the many small terms.
        let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
        surprise += sum.ln() - f64::from(true_logit);
        let scale = (sum * f64::from(count)).recip() as f32;
        row.iter_mut().for_each(|x| *x *= scale);
        if let Some(x) = row.get_mut(target as usize) {
            *x -= count.recip();
        }
    }
    Ok((surprise, to_device(numbers, [rows, vocabulary], &device)))
}
