//! Vector–Jacobian products of a piece of a network, by burn's autodiff.

use burn::tensor::Tensor;

/// The vjp of a function: gradients by its N inputs, in their shapes, from the gradient by its output.
///
/// Runs the function forwards again under autodiff; the graph holds the activations of this function alone, and is
/// freed on return. An input that the output does not depend on gets a gradient of 0.
pub fn vjp<const N: usize, const D: usize>(
    inputs: [Tensor<D>; N],
    gradient: Tensor<D>,
    function: impl FnOnce([Tensor<D>; N]) -> Tensor<D>,
) -> [Tensor<D>; N] {
    let inputs = inputs.map(|x| x.autodiff().require_grad());
    let output = function(inputs.clone());
    // The derivative of Σ output ∘ gradient by the inputs is the vjp; burn starts from scalars only.
    let mut gradients = (output * gradient.autodiff()).sum().backward();
    inputs.map(|x| {
        let zero = || x.clone().inner().zeros_like();
        x.grad_remove(&mut gradients).unwrap_or_else(zero)
    })
}
