//! Sums over tensors whose order does not depend on threads.

use burn::tensor::Tensor;
use rayon::prelude::*;

/// Σ x², in `f64`: burn's own sums of large tensors are `f32`, in an order that its threads decide.
pub fn square<const D: usize>(x: &Tensor<D>) -> f64 {
    let data = x.clone().into_data();
    data.iter::<f32>().map(|x| f64::from(x).powi(2)).sum()
}

/// Adds a list of matrices to another, one by one; an empty first list is 0.
pub fn add(sums: Vec<Tensor<2>>, more: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    if sums.is_empty() {
        return more;
    }
    sums.into_par_iter()
        .zip(more)
        .map(|(sum, x)| sum + x)
        .collect()
}
