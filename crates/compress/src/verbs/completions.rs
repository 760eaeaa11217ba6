//! `compress completions SHELL`

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Outcome, args::Arguments};

#[expect(clippy::unnecessary_wraps, reason = "every verb has this signature")]
pub fn run(shell: Shell) -> Result<Outcome> {
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "compress",
        &mut std::io::stdout(),
    );
    Ok(Outcome::Kept)
}
