//! `compress completions SHELL`

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Outcome, args::Arguments, report};

pub fn run(shell: Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "compress", &mut script);
    report::print(String::from_utf8_lossy(&script))?;
    Ok(Outcome::Kept)
}
