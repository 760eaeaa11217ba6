//! How many threads a piece of work is worth, and how many pieces are in progress at a time.
//!
//! Nested parallelism is the pitfall: work within a pool's thread should not spread over the pool again, and pieces
//! that hold gigabytes must not be begun by a thread that only waits.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rayon::prelude::*;

/// The threads worth using for work on `numbers` numbers: one for each `each` of them, between one and all cores.
/// Within a rayon pool it is one, since the pool's other threads have other work.
#[must_use]
pub fn threads(numbers: usize, each: usize) -> usize {
    if rayon::current_thread_index().is_some() {
        return 1;
    }
    (numbers / each).clamp(1, rayon::current_num_threads())
}

thread_local! {
    /// Among how many pieces of work the threads are shared, where this thread is at one of them.
    static SHARING: Cell<usize> = const { Cell::new(1) };
}

/// Sets the share of the thread's present work, and the former one again when it is dropped.
struct Share(usize);

impl Share {
    fn among(pieces: usize) -> Self {
        Self(SHARING.replace(pieces))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        SHARING.set(self.0);
    }
}

/// Runs `work` for the indices 0..count, in ascending order of starts, and returns the results in the order of the
/// indices. After the first failure no more are started, and one of the errors is returned.
///
/// At most `limit` are in progress, and at most as many as there are threads. Rayon's own parallel iterators do not
/// promise that: a thread that waits inside one item may steal the next, and then holds the memory of both. Pieces that
/// call this themselves share the threads: two side by side on four threads run two each.
pub fn side_by_side<T: Send, E: Send>(
    count: usize,
    limit: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outer = SHARING.get();
    let threads = (rayon::current_num_threads() / outer).max(1);
    let limit = limit.min(count).clamp(1, threads);
    let running = AtomicUsize::new(limit);
    // A lane takes the next index until none is left, so that it never holds more than one item.
    let one_after_the_other = |_| {
        let mut done = Vec::new();
        // Relaxed is enough: one item more or less after a failure does not matter.
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            // The lane may be on another thread than its caller, and that thread in the middle of something else. Where
            // other lanes have ended, their threads are free for what is left.
            let share = Share::among(outer * running.load(Ordering::Relaxed));
            let outcome = work(index);
            drop(share);
            let outcome = outcome.inspect_err(|_| failed.store(true, Ordering::Relaxed));
            done.push((index, outcome?));
        }
        running.fetch_sub(1, Ordering::Relaxed);
        Ok(done)
    };
    let lanes = (0..limit).into_par_iter().with_max_len(1);
    let done = lanes
        .map(one_after_the_other)
        .collect::<Result<Vec<_>, E>>()?;
    let mut done: Vec<(usize, T)> = done.into_iter().flatten().collect();
    // Lanes finish in any order; the results must not show it.
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, given)| given).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pieces_are_done_and_few_at_a_time_even_where_they_wait_for_others() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build();
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |index: usize| {
            let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            let sum: usize = (0..1000).into_par_iter().sum();
            under_way.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(index + sum)
        };
        let done = pool.unwrap().install(|| side_by_side(100, 2, work));
        assert_eq!(done.unwrap(), (499_500..499_600).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[test]
    fn pieces_of_pieces_share_the_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build();
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let inner = |_| {
            let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            // A thread that waits here may take up what is queued.
            let sum: usize = (0..1000).into_par_iter().sum();
            under_way.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(sum)
        };
        let outer = |_| side_by_side(8, usize::MAX, inner);
        let done = pool.unwrap().install(|| side_by_side(20, 2, outer));
        assert_eq!(done.unwrap().concat(), vec![499_500; 160]);
        assert!(most.load(Ordering::SeqCst) <= 4);
    }

    #[test]
    fn after_a_failure_no_more_is_begun() {
        let begun = AtomicUsize::new(0);
        let work = |index: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            if index == 3 { Err(index) } else { Ok(()) }
        };
        assert_eq!(side_by_side(1000, 1, work), Err(3));
        assert_eq!(begun.load(Ordering::SeqCst), 4);
    }
}
