//! Gradients through a piece of a network, by burn's autodiff.

use burn::tensor::Tensor;

/// Gradients by the inputs of a function from the gradient by its output; the graph is that of the
/// function alone.
pub fn vjp<const N: usize, const D: usize>(
    inputs: [Tensor<D>; N],
    gradient: Tensor<D>,
    function: impl FnOnce([Tensor<D>; N]) -> Tensor<D>,
) -> [Tensor<D>; N] {
    let inputs = inputs.map(|x| x.autodiff().require_grad());
    let output = function(inputs.clone());
    let mut gradients = (output * gradient.autodiff()).sum().backward();
    inputs.map(|x| {
        let zero = || x.clone().inner().zeros_like();
        x.grad_remove(&mut gradients).unwrap_or_else(zero)
    })
}
