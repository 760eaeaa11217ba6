//! Threads that help to make one vector after the other.
//!
//! A token of a small model takes some 150 vectors of some 50 µs each, and to wake a thread takes nearly
//! as long: so helpers live for a token, and look out for work in a loop. A vector is made in parts,
//! which whoever comes first takes; and as a part is the same whoever makes it, one that a helper does
//! not finish in time, because its core does something else, is made once more. So nobody waits long.

use std::{
    hint::spin_loop,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
};

/// Parts of a vector for each thread: if they end at different times, then by little.
const PARTS: usize = 8;

/// Turns of a loop, some 20 µs, after which a helper lets other programs have its core, and after which
/// nobody waits for a helper.
const TURNS: usize = 1 << 10;

/// One thread that has work, and helpers.
pub struct Crew<'env> {
    helpers: Vec<Sender<Arc<Job<'env>>>>,
}

/// What makes a part of a vector: which vector, and which pieces of it.
type Make<'env> = dyn Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync + 'env;

/// Vectors to be made.
struct Job<'env> {
    make: Box<Make<'env>>,
    parts: Vec<Part>,
    /// How many parts somebody has taken.
    taken: AtomicUsize,
}

struct Part {
    vector: usize,
    pieces: Range<usize>,
    numbers: OnceLock<Vec<f32>>,
}

/// Runs a program that so many threads work for, this one included.
pub fn with_crew<'env, R>(threads: usize, program: impl FnOnce(&Crew<'env>) -> R) -> R {
    thread::scope(|scope| {
        let help = |_| {
            let (sender, receiver) = channel();
            scope.spawn(move || help(&receiver));
            sender
        };
        let helpers = (1..threads).map(help).collect();
        program(&Crew { helpers })
    })
}

/// Works until there is nobody any more to give work.
fn help(jobs: &Receiver<Arc<Job<'_>>>) {
    let mut turns = 0;
    loop {
        match jobs.try_recv() {
            Ok(job) => {
                job.work();
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

impl<'env> Crew<'env> {
    /// Makes vectors of so many pieces each. `make` is told which of them it is, and which pieces; what it
    /// gives for neighbouring pieces is put together.
    pub fn make<const N: usize>(
        &self,
        counts: [usize; N],
        make: impl Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync + 'env,
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
            let _ = helper.send(job.clone()); // one that has panicked helps no more
        }
        job.work();
        job.finish()
    }
}

impl Job<'_> {
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
    use std::time::Duration;

    use super::*;

    /// Sums of sums, so that a number that is missed anywhere shows at the end.
    fn sums(crew: &Crew<'_>) -> Vec<f32> {
        let mut x = vec![1.0; 7];
        for round in 0..1000 {
            let sum = x.iter().sum::<f32>() % 97.0;
            let pieces = move |vector: usize, pieces: Range<usize>| {
                let piece = |piece| [sum + (vector * 10 + piece + round % 7) as f32; 3];
                pieces.flat_map(piece).collect()
            };
            x = crew.make([50, 1], pieces).concat();
        }
        x
    }

    #[test]
    fn any_number_of_threads_makes_the_same() {
        let alone = with_crew(1, sums);
        assert_eq!(alone.len(), 153);
        for threads in [2, 3, 8] {
            assert_eq!(with_crew(threads, sums), alone, "{threads} threads");
        }
    }

    #[test]
    fn nobody_waits_for_a_helper_that_is_held_up() {
        let own = thread::current().id();
        let made = with_crew(2, |crew| {
            crew.make([100], move |_, pieces| {
                if thread::current().id() != own {
                    thread::sleep(Duration::from_millis(50));
                }
                pieces.map(|piece| piece as f32).collect()
            })
        });
        assert!(
            made[0]
                .iter()
                .copied()
                .eq((0..100).map(|piece| piece as f32))
        );
    }

    #[test]
    #[should_panic(expected = "piece 0")]
    fn a_panic_in_the_work_ends_it() {
        with_crew(2, |crew| {
            crew.make([100], |_, pieces| {
                assert!(pieces.start > 0, "piece 0");
                vec![0.0; pieces.len()]
            })
        });
    }
}
