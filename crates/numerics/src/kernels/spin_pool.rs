//! A thread pool for decoding: helpers that spin for work before they sleep.
//!
//! A token of a small model takes some 150 vectors of some 50 µs each, and waking a thread takes nearly
//! as long. So helpers poll for work in a loop, and sleep only when there was none for some time. A vector is made in parts,
//! which threads take first come, first served; and since a part is the same whoever makes it, one that a helper does
//! not finish in time, because its core has other work, is made again by the caller. So nobody waits for a
//! helper, not even for its end: what it works on is its own, too. Results do not depend on the number of threads.
//!
//! Helpers are started once and shared by all pools. Each vector costs one message per helper, and one allocation per
//! part.

use std::{
    hint::spin_loop,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvError, Sender, TryRecvError, channel},
    },
    thread,
};

/// Parts per thread: more than one, so that a thread that is late costs little at the end.
const PARTS: usize = 2;

/// Turns of the polling loop, some 20 µs: after so many a helper yields its core to other programs, and the caller
/// makes a helper's part itself.
const TURNS: usize = 1 << 10;

/// Times that a helper yields before it sleeps: a millisecond or some, longer than anything between two tokens.
const YIELDS: usize = 1 << 10;

/// All helpers that were started; more are when a pool wants more. They last as long as the program.
static HELPERS: Mutex<Vec<Sender<Weak<Job>>>> = Mutex::new(Vec::new());

/// The helpers of the thread that has work.
pub struct SpinPool {
    helpers: Vec<Sender<Weak<Job>>>,
}

/// Makes the given pieces of the vector with the given index.
type Make = dyn Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync;

/// Vectors to be made, shared by the caller (strongly) and the helpers (weakly).
struct Job {
    make: Box<Make>,
    parts: Vec<Part>,
    /// The number of parts that have been taken.
    taken: AtomicUsize,
}

/// Neighbouring pieces of one vector, made by one thread.
struct Part {
    /// The index of the vector.
    vector: usize,
    /// The pieces of that vector.
    pieces: Range<usize>,
    /// The result of whoever was first.
    numbers: OnceLock<Vec<f32>>,
}

/// A helper's loop, as long as somebody can send it a job.
fn help(jobs: &Receiver<Weak<Job>>) {
    while let Ok(job) = next(jobs) {
        // A job that is already finished is freed, and the weak pointer says so.
        if let Some(job) = job.upgrade() {
            // The helper goes on after a panic: the caller makes the part itself, and panics where it is seen.
            let _ = catch_unwind(AssertUnwindSafe(|| job.work()));
        }
    }
}

/// The next job: polled for at first, then slept for.
fn next(jobs: &Receiver<Weak<Job>>) -> Result<Weak<Job>, RecvError> {
    for turn in 0..TURNS + YIELDS {
        match jobs.try_recv() {
            Ok(job) => return Ok(job),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) if turn < TURNS => spin_loop(),
            // Still polls, but lets other programs run first: between two vectors the caller does other work.
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
    jobs.recv()
}

impl SpinPool {
    /// A pool of so many threads, the caller included; fewer where the system refuses to start more.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let wanted = threads.saturating_sub(1);
        let mut all = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
        while all.len() < wanted {
            let (sender, receiver) = channel();
            if thread::Builder::new()
                .spawn(move || help(&receiver))
                .is_err()
            {
                break;
            }
            all.push(sender);
        }
        Self {
            helpers: all.iter().take(wanted).cloned().collect(),
        }
    }

    /// Makes N vectors of `counts` pieces each, on all threads, the caller included.
    ///
    /// `make` is given the index of a vector and a range of its pieces; its results for neighbouring ranges are
    /// concatenated. It may be called twice for the same pieces, and so must give the same numbers each time. A panic
    /// in `make` on the caller's thread passes through.
    pub fn make<const N: usize>(
        &self,
        counts: [usize; N],
        make: impl Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync + 'static,
    ) -> [Vec<f32>; N] {
        // Alone: whole vectors at once, without an allocation per part.
        if self.helpers.is_empty() {
            return std::array::from_fn(|vector| make(vector, 0..counts[vector]));
        }
        let threads = self.helpers.len() + 1;
        let length = counts
            .iter()
            .sum::<usize>()
            .div_ceil(threads * PARTS)
            .max(1);
        let part = |vector, first| Part {
            vector,
            pieces: first..counts[vector].min(first + length),
            numbers: OnceLock::new(),
        };
        let parts = (0..N).flat_map(|vector| {
            let firsts = (0..counts[vector]).step_by(length);
            firsts.map(move |first| part(vector, first))
        });
        // The caller alone holds the job: with its end, helpers that come late find nothing to do.
        let job = Arc::new(Job {
            make: Box::new(make),
            parts: parts.collect(),
            taken: AtomicUsize::new(0),
        });
        for helper in &self.helpers {
            let _ = helper.send(Arc::downgrade(&job)); // no helper ends before the program
        }
        job.work();
        job.finish()
    }
}

impl Job {
    /// Takes and makes parts until all are taken; run by the caller and all helpers at the same time.
    fn work(&self) {
        while let Some(part) = self.parts.get(self.taken.fetch_add(1, Ordering::Relaxed)) {
            // Fails where the caller lost patience and made the part itself; the numbers are the same.
            let _ = part.numbers.set(self.made(part));
        }
    }

    /// Concatenates the parts. A part that another thread has taken is waited for at most [`TURNS`], then made here.
    fn finish<const N: usize>(&self) -> [Vec<f32>; N] {
        let mut vectors = [const { Vec::new() }; N];
        for part in &self.parts {
            let mut turns = 0;
            while part.numbers.get().is_none() && turns < TURNS {
                turns += 1;
                spin_loop();
            }
            // Late, most likely because the helper's core runs another program: made here instead of waiting.
            let numbers = part.numbers.get_or_init(|| self.made(part));
            vectors[part.vector].extend_from_slice(numbers);
        }
        vectors
    }

    /// Makes a part, without putting it in place.
    fn made(&self, part: &Part) -> Vec<f32> {
        (self.make)(part.vector, part.pieces.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Sums of sums, so that a number that is missed anywhere shows at the end.
    fn sums(pool: &SpinPool) -> Vec<f32> {
        let mut x = vec![1.0; 7];
        for round in 0..1000 {
            let sum = x.iter().sum::<f32>() % 97.0;
            let pieces = move |vector: usize, pieces: Range<usize>| {
                let piece = |piece| [sum + (vector * 10 + piece + round % 7) as f32; 3];
                pieces.flat_map(piece).collect()
            };
            x = pool.make([50, 1], pieces).concat();
        }
        x
    }

    #[test]
    fn any_number_of_threads_makes_the_same() {
        let alone = sums(&SpinPool::new(1));
        assert_eq!(alone.len(), 153);
        for threads in [2, 3, 8] {
            assert_eq!(sums(&SpinPool::new(threads)), alone, "{threads} threads");
        }
    }

    #[test]
    fn nobody_waits_for_a_helper_that_is_held_up() {
        let own = thread::current().id();
        let (start, held_up) = (Instant::now(), Duration::from_secs(5));
        let [made] = SpinPool::new(2).make([100], move |_, pieces| {
            if thread::current().id() != own {
                thread::sleep(held_up);
            }
            pieces.map(|piece| piece as f32).collect()
        });
        assert!(start.elapsed() < held_up);
        assert!(made.into_iter().eq((0..100).map(|piece| piece as f32)));
    }

    #[test]
    #[should_panic(expected = "piece 0")]
    fn a_panic_in_the_work_ends_it() {
        let [_] = SpinPool::new(2).make([100], |_, pieces| {
            assert!(pieces.start > 0, "piece 0");
            vec![0.0; pieces.len()]
        });
    }
}
