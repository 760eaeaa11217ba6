//! The law that the memory which a method needs is predicted.

use std::{env, fs, process::Command};

use super::threads::{WIDE, Wide};
use crate::{Budget, Error, Method, Result, Role, Site, Survey};

/// Large enough that whole matrices are what counts.
const LARGE: Wide = Wide {
    hidden: 1536,
    gated: 3072,
    // As a trained weight's, whose cuts leave more than a thousandth.
    decay: 3.0,
};

/// Streams with one weight, two of more outputs than inputs, and one of fewer.
const STREAMS: [&[Role]; 3] = [&[Role::Output], &[Role::Gate, Role::Up], &[Role::Down]];

/// Which case a process is to measure; the variable of a process that was started for one.
const CASE: &str = "COMPRESS_TEST_CASE";

/// Law: what carrying out the steps of a layer input takes of memory, on 2 threads, is what was predicted, to a tenth;
/// less than that only where several weights need not hold most at the same time.
///
/// A process is measured, for each method and input a new one, so that nothing is left in it from before: the
/// test itself, started again. It must be the only one of its file. Where the system does not tell, nothing is
/// measured.
pub fn memory_is_predicted<M: Method>(methods: &[M]) -> Result<()> {
    let case = env::var(CASE).ok().and_then(|case| case.parse().ok());
    let cases = methods.len() * STREAMS.len();
    if let Some(case) = case {
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
            // What is let go goes back to the system, as it does with matrices of gigabytes.
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

fn measure<M: Method>(method: &M, readers: &[Role]) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = pool.build().map_err(Error::source)?;
    let chosen = |site: Site| site.role().is_some_and(|role| readers.contains(&role));
    let carry_out = |survey: &Survey<'_>| {
        let steps = method.plan(survey, Some(Budget::keep(0.3)?))?;
        pool.install(|| method.compress(&steps, survey).map(drop))?;
        method.memory(&steps, &|site| survey.shape(site), 2)
    };
    // Once for little, so that code and threads are there.
    carry_out(&Survey::new(&WIDE, chosen).with_evidence(&WIDE))?;
    let Some(before) = told("VmRSS:") else {
        return Ok(());
    };
    let predicted = carry_out(&Survey::new(&LARGE, chosen).with_evidence(&LARGE))?;
    let taken = told("VmHWM:").unwrap_or(before).saturating_sub(before);
    let ratio = taken as f64 / predicted as f64;
    assert!(
        ratio < 1.1 && (ratio > 0.9 || readers.len() > 1),
        "{} for {readers:?} takes {taken} bytes, {ratio:.3} of the {predicted} predicted",
        method.name()
    );
    Ok(())
}

/// A line of what the system tells of this process, in bytes.
fn told(name: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kilobytes)
}
