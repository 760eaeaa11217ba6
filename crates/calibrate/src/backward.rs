//! From gradients after a block to gradients before it, and by the output of each of its weights.
//!
//! A linear weight passes gradients on by one product, attention and the gate by a kernel. Between them,
//! burn's autodiff walks back through a norm: no graph is larger than that.

use burn::tensor::Tensor;
use compress_core::Role;
use compress_models::{Block, Decoder, FeedForward, RotaryAngles, to_device, to_host, vjp};
use compress_numerics::kernels::exponentiate;

use crate::{BlockTrace, Result};

/// Gradients of a window's loss.
pub struct Gradients {
    /// By the residual stream that goes into the block.
    pub residual: Tensor<3>,
    /// By the output of each weight, in the order of [`Role::ALL`].
    pub outputs: [Tensor<3>; Role::ALL.len()],
    /// By the output of each norm, that of attention first.
    pub norms: [Tensor<3>; 2],
    /// By the outputs of the norms of query and key heads; by their inputs where there are none.
    pub head_norms: [Tensor<3>; 2],
}

/// Walks back through a block; `next` is the gradient by what comes out of it.
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
        outputs: [query, key, value, middle, gate, up, next],
        norms: [normed, feed_forward_normed],
        head_norms: attend.normed,
    }
}

/// A window's mean loss, and its gradient by the residual stream after the last block, 1 × time × hidden.
pub fn of_loss(ends: &Decoder, last: Tensor<3>, window: &[u32]) -> Result<(f64, Tensor<3>)> {
    let (loss, by_normed) = of_loss_after_norm(ends, &last, window)?;
    let [gradient] = vjp([last], by_normed, |[x]| ends.norm.forward(x));
    Ok((loss, gradient))
}

/// The same loss, and its gradient by what the last norm makes of that stream.
pub fn of_loss_after_norm(
    ends: &Decoder,
    last: &Tensor<3>,
    window: &[u32],
) -> Result<(f64, Tensor<3>)> {
    let [_, time, width] = last.dims();
    let hidden = ends.norm.forward(last.clone()).reshape([time, width]);
    let predicting = time - 1; // the last token predicts nothing that is known
    let mut slices = Vec::new();
    let mut loss = 0.0;
    for slice in ends.slices(predicting) {
        let logits = ends.logits(hidden.clone().narrow(0, slice.start, slice.len()));
        let targets = window.get(slice.start + 1..).unwrap_or_default();
        let (surprise, by_logits) = softmax_minus_truth(logits, targets, predicting as f32)?;
        loss += surprise;
        slices.push(ends.logits_backward(by_logits));
    }
    slices.push(Tensor::zeros([1, width], &last.device()));
    let by_normed = Tensor::cat(slices, 0).reshape([1, time, width]);
    Ok((loss / predicting as f64, by_normed))
}

/// Σ −ln softmax(logits) at the targets, and (softmax(logits) − one at the target) / count, row by row.
fn softmax_minus_truth(logits: Tensor<2>, targets: &[u32], count: f32) -> Result<(f64, Tensor<2>)> {
    let ([rows, vocabulary], device) = (logits.dims(), logits.device());
    let mut numbers = to_host(logits)?;
    let mut surprise = 0.0;
    for (row, &target) in numbers.chunks_exact_mut(vocabulary).zip(targets) {
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
