//! Telling how far a pass has come.

/// Told of each window's way through each block: how many there will be, and one more done.
pub trait Progress: Sync {
    /// So many steps lie ahead.
    fn start(&self, what: &'static str, steps: usize);
    /// So many are done.
    fn advance(&self, steps: usize);
    /// Something to be seen beside them.
    fn show(&self, _news: &str) {}
    /// All is done.
    fn finish(&self) {}
}
