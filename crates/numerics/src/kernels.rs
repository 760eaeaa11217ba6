//! Small kernels on slices: the steps of a network between its matrix products, for one token or many.
//!
//! A tensor library allocates and dispatches a dozen times for each of these steps, which takes longer than the step itself
//! when there is one token. Loops are written so that the compiler vectorises them; [`vectorized`] picks the widest
//! instructions that the processor has.

mod attention;
mod divergence;
mod dot;
mod exponential;
mod rms_norm;
mod rope;
mod spin_pool;
mod swiglu;
#[cfg(test)]
mod testing;

pub use attention::{HEADER, attend_part, exponentials, join_parts};
pub use divergence::divergence;
pub use dot::{largest, multiply_rows};
pub use exponential::{exponentiate, log_sum_exp};
pub use rms_norm::{divide_and_scale, rms_norm};
pub use rope::rotate_halves;
pub use spin_pool::SpinPool;
pub use swiglu::{swiglu, swiglu_backward};

/// Runs a closure with the widest vector instructions that the processor has.
///
/// Only what is inlined into the closure gets them: mark it, and what it calls, `#[inline(always)]`.
#[inline]
pub fn vectorized<T>(kernel: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(kernel)
}
