//! How many threads a piece of work is worth.

/// One for each so many numbers, at least one and at most all cores; one within a pool of threads, which
/// share other work.
#[must_use]
pub fn threads(numbers: usize, each: usize) -> usize {
    if rayon::current_thread_index().is_some() {
        return 1;
    }
    (numbers / each).clamp(1, rayon::current_num_threads())
}
