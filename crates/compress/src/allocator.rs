//! The allocator, which can count what is freed: what a value really takes is told by letting go of it.

#![expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; this one passes everything on"
)]

use std::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use mimalloc::MiMalloc;

/// mimalloc: freed memory is the system's again within milliseconds, also that of threads which wait, so that what a run
/// takes is what `plan` predicts. See also [`memory::return_at_once`](crate::memory::return_at_once).
pub struct Allocator;

/// Whether anybody counts: otherwise a free costs one load more than mimalloc's.
static COUNTING: AtomicBool = AtomicBool::new(false);

/// Bytes of the blocks that were freed while somebody counted, as the allocator had rounded them.
static FREED: AtomicUsize = AtomicUsize::new(0);

/// Lets go of a value, and tells how many bytes the allocator gets back by it. Other threads should free nothing
/// meanwhile, since all of the program is counted.
pub fn freed_by<T>(value: T) -> usize {
    FREED.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    drop(value);
    COUNTING.store(false, Ordering::SeqCst);
    FREED.load(Ordering::SeqCst)
}

// SAFETY: all is passed on to mimalloc, whose contract is that of the trait.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if COUNTING.load(Ordering::Relaxed) {
            // SAFETY: the block is one of mimalloc's, and not freed yet.
            let bytes = unsafe { libmimalloc_sys::mi_usable_size(block.cast()) };
            FREED.fetch_add(bytes, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_of_is_counted() {
        // Other tests may free something at the same time: at least this much, and not many times it.
        let bytes = freed_by(vec![0_u8; 10_000_000]);
        assert!((10_000_000..30_000_000).contains(&bytes), "{bytes}");
    }
}
