//! Progress on stderr: what is done, and how long the rest will take.
//!
//! Bars of known length, for passes (`evidence::Bar`), for steps, and for downloads.

use std::sync::Mutex;

use compress_hub::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over things that are counted.
const COUNTED: &str = "{msg:>12} {bar:30} {pos}/{len}, {elapsed} gone, {eta} to go";
/// A bar over bytes.
const BYTES: &str = "{msg:>12} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go";

/// A bar over a known number of things; hidden when quiet.
pub fn bar(what: &'static str, count: usize, quiet: bool) -> ProgressBar {
    styled(what, count as u64, COUNTED, quiet)
}

/// A bar with its first message; a template that does not parse gives the usual bar, not a failure.
fn styled(
    what: impl Into<std::borrow::Cow<'static, str>>,
    length: u64,
    template: &str,
    quiet: bool,
) -> ProgressBar {
    let target = if quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(length), target)
        .with_style(style)
        .with_message(what)
}

/// A bar per file that is downloaded.
pub struct Download {
    /// Without progress.
    quiet: bool,
    /// The file that is downloaded, and its bar.
    current: Mutex<Option<(String, ProgressBar)>>,
}

impl Download {
    /// No bar yet: a file starts its own.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            current: Mutex::new(None),
        }
    }
}

impl Progress for Download {
    fn advance(&self, file: &str, done: u64, total: u64) {
        let mut current = self
            .current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.as_ref().is_none_or(|(name, _)| name != file) {
            *current = Some((
                file.into(),
                styled(file.to_owned(), total, BYTES, self.quiet),
            ));
        }
        if let Some((_, bar)) = &*current {
            // Set, not added to: a download that goes on or is tried again starts elsewhere.
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}
