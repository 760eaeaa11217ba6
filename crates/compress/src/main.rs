//! `compress`: makes large language models smaller and shows what it cost.
//!
//! Arguments (`args`) become a job (`job`), which knows no command line; each verb is one file of `verbs`. The way of
//! a run: `pipeline` makes a plan, `footprint` predicts what it takes, `evidence` measures, `task` and `carry_out`
//! compress and write, `scoring` runs both models, `report` and `plot` tell of it.
//!
//! Results go to stdout, everything else to stderr; the exit status is 0 when done, 1 when a promise was not kept, 2
//! when it could not run.

/// Tells something on stderr. Where nobody reads that any more it is told to nobody: `eprintln!` would panic, also in
/// the thread that ends the program at an interrupt.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($words)*);
    }};
}

mod allocator;
mod args;
mod cache;
mod carry_out;
mod evidence;
mod footprint;
mod interrupt;
mod job;
mod loaded;
mod memory;
mod model;
mod passing;
mod pipeline;
mod plot;
mod progress;
mod report;
mod scoring;
mod shipped;
mod side;
mod task;
mod text;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Arguments, RunMethod, Verb};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// How a verb that ran to its end came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// As promised.
    Kept,
    /// Done, but not as promised; the reason has been printed.
    Broken,
}

/// Runs the verb that was asked for. clap ends the program itself, with status 2, where arguments are wrong.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    memory::return_at_once();
    // Before any verb: the shipped model is unpacked into a folder that an interrupt must remove.
    interrupt::watch();
    let outcome = match arguments.verb {
        Verb::Methods(job) => verbs::methods::run(&job),
        Verb::Inspect(job) => verbs::inspect::run(&job),
        Verb::Plan { method } => verbs::plan::run(&method),
        Verb::Run { method } => match method {
            RunMethod::Weights(method) => verbs::run::run(&method),
            RunMethod::Think(job) => verbs::think::run(&job),
        },
        Verb::Generate(job) => verbs::generate::run(&job),
        Verb::Tune(job) => verbs::tune::run(&job),
        Verb::Compare(job) => verbs::compare::run(&job),
        Verb::Report(job) => verbs::report::run(&job),
        Verb::Evaluate(job) => verbs::evaluate::run(&job),
        Verb::Cache(job) => verbs::cache::run(&job),
        Verb::Doctor(job) => verbs::doctor::run(&job),
        Verb::Completions { shell } => verbs::completions::run(shell),
    };
    match outcome {
        Ok(Outcome::Kept) => ExitCode::SUCCESS,
        Ok(Outcome::Broken) => ExitCode::from(1),
        Err(error) => {
            tell!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
