//! The interface by which a download reports its progress.

/// Receives the progress of each file. `()` ignores it.
pub trait Progress: Sync {
    /// `done` of `total` bytes of `file` are written; called after every buffer of at most 256 KiB,
    /// so it should be cheap. The first call may start above 0, where an earlier download is
    /// continued; after a retry `done` may be smaller than before. The last call of a complete
    /// download has `done == total`.
    fn advance(&self, file: &str, done: u64, total: u64);
}

impl Progress for () {
    fn advance(&self, _file: &str, _done: u64, _total: u64) {}
}
