//! The law that a method predicts the memory that it needs.
//!
//! Measured is the peak of resident memory (`VmHWM` of `/proc/self/status`), in a process of its own per case.

use std::{env, fs, process::Command};

use super::threads::{WIDE, Wide};
use crate::{Budget, Error, Method, Result, Role, Site, Survey};

/// Large enough that matrices outweigh everything else: 1536 × 3072 takes 19 MB in `f32`.
const LARGE: Wide = Wide {
    hidden: 1536,
    gated: 3072,
    // As a trained weight's, whose cuts leave more than a thousandth.
    decay: 3.0,
};

/// Layer inputs with one reader, with two of more outputs than inputs, and with one of fewer.
const STREAMS: [&[Role]; 3] = [&[Role::Output], &[Role::Gate, Role::Up], &[Role::Down]];

/// The environment variable by which a child process is told which case to measure.
const CASE: &str = "COMPRESS_TEST_CASE";

/// Law: the peak memory of carrying out the steps of a layer input, on 2 threads, is within a tenth of the prediction;
/// below that only with several readers, which need not reach their peaks at the same time.
///
/// Each case runs in a new process, the test's own binary started again, so that no memory is left in it from before.
/// It must therefore be the only test of its file. Where `/proc` does not exist nothing is measured.
pub fn memory_is_predicted<M: Method>(methods: &[M]) -> Result<()> {
    let case = env::var(CASE).ok().and_then(|case| case.parse().ok());
    let cases = methods.len() * STREAMS.len();
    if let Some(case) = case {
        // In a child: measure the one case.
        let case: usize = case;
        return measure(
            &methods[case / STREAMS.len()],
            STREAMS[case % STREAMS.len()],
        );
    }
    let mut failed = String::new();
    for case in 0..cases {
        let program = env::current_exe().map_err(Error::source)?;
        let run = Command::new(program)
            .env(CASE, case.to_string())
            // Makes glibc return freed blocks of this size to the system, as it does with matrices of gigabytes anyway.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .output();
        let run = run.map_err(Error::source)?;
        if !run.status.success() {
            failed += &String::from_utf8_lossy(&run.stdout);
        }
    }
    assert!(failed.is_empty(), "{failed}");
    Ok(())
}

/// Measures one case in this process, against the prediction.
fn measure<M: Method>(method: &M, readers: &[Role]) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = pool.build().map_err(Error::source)?;
    let chosen = |site: Site| site.role().is_some_and(|role| readers.contains(&role));
    let carry_out = |survey: &Survey<'_>| {
        let steps = method.plan(survey, Some(Budget::keep(0.3)?))?;
        pool.install(|| method.compress(&steps, survey).map(drop))?;
        method.memory(&steps, &|site| survey.shape(site), 2)
    };
    // A small run first, so that code pages, thread stacks and the allocator's arenas are not counted.
    carry_out(&Survey::new(&WIDE, chosen).with_evidence(&WIDE))?;
    let Some(before) = told("VmRSS:") else {
        return Ok(());
    };
    let predicted = carry_out(&Survey::new(&LARGE, chosen).with_evidence(&LARGE))?;
    // Of the whole process so far: the small run's peak is far below that of the large one.
    let taken = told("VmHWM:").unwrap_or(before).saturating_sub(before);
    let ratio = taken as f64 / predicted as f64;
    assert!(
        ratio < 1.1 && (ratio > 0.9 || readers.len() > 1),
        "{} for {readers:?} takes {taken} bytes, {ratio:.3} of the {predicted} predicted",
        method.name()
    );
    Ok(())
}

/// A line of `/proc/self/status`, in bytes; none on other systems.
fn told(name: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kilobytes)
}
