//! The memory that is needed is predicted.

use compress_core::testing;
use compress_svd::{Norm, Svd};

#[test]
fn the_memory_that_is_needed_is_predicted() -> compress_core::Result<()> {
    let methods = [
        Svd { norm: Norm::Plain },
        Svd {
            norm: Norm::Activation,
        },
    ];
    testing::memory_is_predicted(&methods)
}
