//! The memory that is needed is predicted.

use compress_core::{Bits, Scheme, TokenWeights, testing};
use compress_lorc::{Lorc, Quantizer, RoundingOptions, Scaling};
use compress_svd::Norm;

#[test]
fn the_memory_that_is_needed_is_predicted() -> compress_core::Result<()> {
    let methods = [(0, Norm::Plain), (8, Norm::Activation)].map(|(rank, metric)| Lorc {
        options: RoundingOptions {
            quantizer: Quantizer::Gptq,
            scaling: Scaling::Mse,
            refinements: 1,
            rank,
            ..RoundingOptions::nearest(Scheme::symmetric(Bits::Four, Some(32)))
        },
        auto_rank: false,
        metric,
        tokens: TokenWeights::Uniform,
    });
    testing::memory_is_predicted(&methods)
}
