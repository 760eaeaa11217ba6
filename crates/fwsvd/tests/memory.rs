//! The memory that is needed is predicted.

use compress_core::testing;
use compress_fwsvd::{Fisher, FwSvd};

#[test]
fn the_memory_that_is_needed_is_predicted() -> compress_core::Result<()> {
    let methods = [
        FwSvd {
            fisher: Fisher::Rows,
        },
        FwSvd {
            fisher: Fisher::Kronecker,
        },
    ];
    testing::memory_is_predicted(&methods)
}
