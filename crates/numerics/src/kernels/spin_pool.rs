//! Threads that help to make one vector after the other.
//!
//! A token of a small model takes some 150 vectors of some 50 µs each, and to wake a thread takes nearly
//! as long: so helpers live for a token, and look out for work in a loop. A vector is made in parts,
//! which whoever comes first takes; and as a part is the same whoever makes it, one that a helper does
//! not finish in time, because its core does something else, is made once more. So nobody waits for a
//! helper, not even for its end: what it works on is its own, too.

use std::{
    hint::spin_loop,
    ops::Range,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
};

/// Parts of a vector for each thread: if they end at different times, then by little.
const PARTS: usize = 2;

/// Turns of a loop, some 20 µs, after which a helper lets other programs have its core, and after which
/// nobody waits for a helper.
const TURNS: usize = 1 << 10;

/// Helpers of the thread that has work.
pub struct SpinPool {
    helpers: Vec<Sender<Weak<Job>>>,
}

/// What makes a part of a vector: which vector, and which pieces of it.
type Make = dyn Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync;

/// Vectors to be made.
struct Job {
    make: Box<Make>,
    parts: Vec<Part>,
    /// How many parts somebody has taken.
    taken: AtomicUsize,
}

struct Part {
    vector: usize,
    pieces: Range<usize>,
    numbers: OnceLock<Vec<f32>>,
}

/// Works until there is nobody any more to give work.
fn help(jobs: &Receiver<Weak<Job>>) {
    let mut turns = 0;
    loop {
        match jobs.try_recv() {
            Ok(job) => {
                // One that is over by now is gone.
                if let Some(job) = job.upgrade() {
                    job.work();
                }
                turns = 0;
            }
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) if turns < TURNS => {
                turns += 1;
                spin_loop();
            }
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
}

impl SpinPool {
    /// So many threads, this one included; fewer where the system gives no more.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let helper = |_| {
            let (sender, receiver) = channel();
            let thread = thread::Builder::new().spawn(move || help(&receiver));
            thread.ok().map(|_| sender)
        };
        Self {
            helpers: (1..threads).filter_map(helper).collect(),
        }
    }

    /// Makes vectors of so many pieces each. `make` is told which of them it is, and which pieces; what it
    /// gives for neighbouring pieces is put together.
    pub fn make<const N: usize>(
        &self,
        counts: [usize; N],
        make: impl Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync + 'static,
    ) -> [Vec<f32>; N] {
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
        let job = Arc::new(Job {
            make: Box::new(make),
            parts: parts.collect(),
            taken: AtomicUsize::new(0),
        });
        for helper in &self.helpers {
            let _ = helper.send(Arc::downgrade(&job)); // one that has panicked helps no more
        }
        job.work();
        job.finish()
    }
}

impl Job {
    /// Makes parts until all are taken.
    fn work(&self) {
        while let Some(part) = self.parts.get(self.taken.fetch_add(1, Ordering::Relaxed)) {
            let _ = part.numbers.set(self.made(part));
        }
    }

    /// The vectors; parts that others have taken are waited for, a little.
    fn finish<const N: usize>(&self) -> [Vec<f32>; N] {
        let mut vectors = [const { Vec::new() }; N];
        for part in &self.parts {
            let mut turns = 0;
            while part.numbers.get().is_none() && turns < TURNS {
                turns += 1;
                spin_loop();
            }
            let numbers = part.numbers.get_or_init(|| self.made(part));
            vectors[part.vector].extend_from_slice(numbers);
        }
        vectors
    }

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
