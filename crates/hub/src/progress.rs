//! Progress of a download.

/// Told how far the download of each file is. `()` listens to nothing.
pub trait Progress: Sync {
    /// `done` of `total` bytes of `file` are on the disk. The first call for a file may find some there already,
    /// when a download continues; the last has `done == total`.
    fn advance(&self, file: &str, done: u64, total: u64);
}

impl Progress for () {
    fn advance(&self, _file: &str, _done: u64, _total: u64) {}
}
