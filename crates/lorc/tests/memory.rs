//! The memory that is needed is foretold.

use compress_core::{Bits, Scheme, Tokens, testing};
use compress_lorc::{Lorc, Options, Quantizer, Scaling};
use compress_svd::Norm;

#[test]
fn the_memory_that_is_needed_is_foretold() -> compress_core::Result<()> {
    let methods = [(0, Norm::Plain), (8, Norm::Activation)].map(|(rank, metric)| Lorc {
        options: Options {
            quantizer: Quantizer::Gptq,
            scaling: Scaling::Searched,
            refinements: 1,
            rank,
            ..Options::nearest(Scheme::symmetric(Bits::Four, Some(32)))
        },
        worth: false,
        metric,
        tokens: Tokens::Alike,
    });
    testing::memory_is_foretold(&methods)
}
