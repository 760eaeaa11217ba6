//! Helpers of the kernels' tests.

use crate::Random;

/// Normal random numbers, the same for the same seed.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.normal()).collect()
}

/// Asserts that numbers are those of `f64`, to some units in the last place.
pub fn assert_near(found: &[f32], exact: impl IntoIterator<Item = f64>) {
    for (i, (&x, exact)) in found.iter().zip(exact).enumerate() {
        let error = (f64::from(x) - exact).abs();
        assert!(error < 2e-6 * exact.abs().max(1.0), "{i}: {x}, not {exact}");
    }
}
