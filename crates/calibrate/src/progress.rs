//! Progress reports of a pass over the text.

/// A listener to progress; called from several threads.
pub trait Progress: Sync {
    /// A phase begins, named by a word or two, with this many steps: mostly one per window and block.
    fn start(&self, what: &'static str, steps: usize);
    /// So many steps of the phase are done.
    fn advance(&self, steps: usize);
    /// A line to be shown beside the progress.
    fn show(&self, _news: &str) {}
    /// The phase is over.
    fn finish(&self) {}
}
