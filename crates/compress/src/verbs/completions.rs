//! `compress completions SHELL`: the completions of a shell, from the arguments themselves.

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Outcome, args::Arguments, report};

/// Prints the script.
pub fn run(shell: Shell) -> Result<Outcome> {
    // Made in memory first: clap_complete panics where it cannot write, as to a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "compress", &mut script);
    report::print(String::from_utf8_lossy(&script))?;
    Ok(Outcome::Kept)
}
