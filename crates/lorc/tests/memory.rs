//! The memory that is needed is predicted.

use compress_core::{Bits, Scheme, TokenWeights, testing};
use compress_lorc::{Lorc, Quantizer, RoundingOptions, Scaling};
use compress_svd::Norm;

#[test]
fn the_memory_that_is_needed_is_predicted() -> compress_core::Result<()> {
    let methods = [
        (Quantizer::Gptq, 0, Norm::Plain),
        (Quantizer::Gptq, 8, Norm::Activation),
        (Quantizer::Nearest, 0, Norm::Plain),
    ];
    let methods = methods.map(|(quantizer, rank, metric)| Lorc {
        options: RoundingOptions {
            quantizer,
            scaling: Scaling::Mse,
            refinements: usize::from(quantizer == Quantizer::Gptq),
            rank,
            ..RoundingOptions::nearest(Scheme::symmetric(Bits::Four, Some(32)))
        },
        auto_rank: false,
        metric,
        tokens: TokenWeights::Uniform,
    });
    testing::memory_is_predicted(&methods)
}
