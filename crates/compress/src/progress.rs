//! Progress on stderr: what is done, and how long the rest will take.

use std::sync::Mutex;

use compress_hub::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const COUNTED: &str = "{msg:>12} {bar:30} {pos}/{len}, {elapsed} gone, {eta} to go";
const BYTES: &str = "{msg:>12} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go";

/// A bar over a known number of things; hidden when quiet.
pub fn bar(what: &'static str, count: usize, quiet: bool) -> ProgressBar {
    styled(what, count as u64, COUNTED, quiet)
}

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
    quiet: bool,
    current: Mutex<Option<(String, ProgressBar)>>,
}

impl Download {
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
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}
