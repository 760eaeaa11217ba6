//! The journal of a work directory: a line of JSON for each finished step, appended after its data
//! is durable.
//!
//! ```text
//! {"compress":"work directory"}                          the header
//! {"step":{"index":3,"errors":[[SITE, BITS], ...]}}      a step, and the errors of its weights
//! {"block":5}                                            all blocks before number 5
//! {"publishing":{"device":1,"inode":2}}                  the model is complete, and about to be renamed
//! ```
//!
//! Order of each write: fsync of the weight files, append, fsync of the journal. An fsync costs
//! milliseconds, so lines are collected and written once a second: a kill loses a second of work at
//! most. An incomplete last line is cut off when the journal is opened.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use compress_core::Site;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, write::output::Identity};

/// The finished steps by index in the plan, each with the relative errors of the weights that it
/// changed.
pub type Finished = BTreeMap<usize, Vec<(Site, f64)>>;

/// The journal's name in a work directory.
pub const FILE: &str = ".journal";

/// The time between two fsyncs of [`Journal::flush_at_times`].
const INTERVAL: Duration = Duration::from_secs(1);

/// The first line. A folder is removed as a work directory only where its journal begins with it.
const HEADER: &str = "{\"compress\":\"work directory\"}\n";

/// One line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// A step is finished, and its factors are in the weight files.
    Step {
        index: usize,
        /// The bit patterns of the errors: a decimal might not read back as the same number.
        errors: Vec<(Site, u64)>,
    },
    /// All blocks before this one are finished, and the residual streams that enter it lie in the
    /// work directory.
    Block(usize),
    /// The model is complete and about to be renamed; the identity of its folder, where the system
    /// has one.
    Publishing(Option<Identity>),
}

/// The contents of a journal.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// The finished steps.
    pub finished: Finished,
    /// The first unfinished block, where blocks are compressed in order; 0 otherwise.
    pub block: usize,
    /// The identity of the finished model's folder, once it was about to be renamed.
    pub publishing: Option<Identity>,
}

/// An open journal, to which several threads may append.
pub struct Journal {
    path: PathBuf,
    state: Mutex<State>,
    before: Entries,
}

/// The mutable part, behind the lock.
struct State {
    file: File,
    /// Lines that are not written yet.
    pending: String,
    /// The time of the last fsync.
    synced: Instant,
    /// Whether the file has a line after the header.
    vouches: bool,
    /// Whether a write or an fsync has failed; then no further line is written. The kernel reports
    /// a lost page once and then forgets it, so a second fsync would succeed without the data.
    failed: bool,
}

impl Journal {
    /// Opens the journal of a work directory or starts one, and cuts an incomplete last line off.
    /// Fails where the file cannot be written, or a complete line is not understood.
    pub fn open(work: &Path) -> Result<Self> {
        let path = work.join(FILE);
        let mut file = open_to_write(&path)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::io(&path))?;
        let (before, whole) = if text.starts_with(HEADER) {
            parse(&path, &text)?
        } else {
            (Entries::default(), 0)
        };
        // The next line must not be appended to an incomplete one.
        file.set_len(whole as u64).map_err(Error::io(&path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(&path))?;
        // A new file, or one whose header was not completed.
        if whole == 0 {
            file.write_all(HEADER.as_bytes())
                .map_err(Error::io(&path))?;
        }
        let state = State {
            file,
            pending: String::new(),
            synced: Instant::now(),
            vouches: whole > HEADER.len(),
            failed: false,
        };
        Ok(Self {
            path,
            state: state.into(),
            before,
        })
    }

    /// Reads the journal of a folder without changing it; none where there is none, or not one of
    /// ours.
    pub fn read(work: &Path) -> Option<Entries> {
        let path = work.join(FILE);
        let text = std::fs::read_to_string(&path).ok()?;
        // A run that was killed at once may have written only part of the header.
        let ours = text.starts_with(HEADER) || HEADER.starts_with(&text);
        ours.then(|| parse(&path, &text).map(|(entries, _)| entries).ok())?
    }

    /// The entries of earlier runs, as they were when the journal was opened.
    pub const fn before(&self) -> &Entries {
        &self.before
    }

    /// Whether a line beyond the header is on disk, so that there is work worth keeping.
    pub fn vouches(&self) -> bool {
        self.state().vouches
    }

    /// Adds a finished step. The line stays in memory until a flush.
    pub fn step(&self, index: usize, errors: impl Iterator<Item = (Site, f64)>) -> Result<()> {
        let errors = errors.map(|(site, error)| (site, error.to_bits()));
        let errors = errors.collect();
        self.add(&mut self.state(), &Line::Step { index, errors })
    }

    /// Writes pending lines if the last fsync was a second ago; `sync` makes the data durable that
    /// they refer to.
    pub fn flush_at_times(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        if state.synced.elapsed() < INTERVAL {
            return Ok(());
        }
        self.write(&mut state, sync)
    }

    /// Records that all blocks before `first` are finished; durable on return.
    pub fn block(&self, first: usize, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        self.add(&mut state, &Line::Block(first))?;
        self.write(&mut state, sync)
    }

    /// Records that the finished model is about to be renamed; durable on return. The model must
    /// have been synced.
    pub fn publishing(&self, model: Option<Identity>) -> Result<()> {
        let mut state = self.state();
        self.add(&mut state, &Line::Publishing(model))?;
        self.write(&mut state, || Ok(()))
    }

    /// Writes all pending lines; `sync` makes the data durable that they refer to.
    pub fn flush(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        self.write(&mut self.state(), sync)
    }

    /// The mutable part. A poisoned lock means that another thread failed, which is reported there.
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that another thread failed, which is reported by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line to the pending ones.
    fn add(&self, state: &mut State, line: &Line) -> Result<()> {
        let line = serde_json::to_string(line);
        state.pending += &line.map_err(|e| Error::damaged(&self.path, e.to_string()))?;
        state.pending.push('\n');
        Ok(())
    }

    /// Syncs the data, appends the pending lines and syncs the journal. After a failure all later
    /// calls write nothing.
    fn write(&self, state: &mut State, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let lines = std::mem::take(&mut state.pending);
        // After a failure pending lines are dropped: what they say may not be on disk.
        if lines.is_empty() || state.failed {
            return Ok(());
        }
        // Set before the first fallible call and cleared after the last, so that every early return
        // leaves it set.
        state.failed = true;
        sync()?;
        let file = &mut state.file;
        let written = file.write_all(lines.as_bytes());
        let written = written.and_then(|()| file.sync_data());
        written.map_err(Error::io(&self.path))?;
        state.synced = Instant::now();
        state.vouches = true;
        state.failed = false;
        Ok(())
    }
}

/// The entries of the complete lines, and the length of those in bytes.
fn parse(path: &Path, text: &str) -> Result<(Entries, usize)> {
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut entries = Entries::default();
    // The first line is the header.
    for line in text.get(..whole).unwrap_or_default().lines().skip(1) {
        match serde_json::from_str(line).map_err(|e| Error::damaged(path, e.to_string()))? {
            Line::Step { index, errors } => {
                let errors = errors
                    .into_iter()
                    .map(|(site, bits)| (site, f64::from_bits(bits)));
                entries.finished.insert(index, errors.collect());
            }
            Line::Block(first) => entries.block = first,
            Line::Publishing(model) => entries.publishing = model,
        }
    }
    Ok((entries, whole))
}

/// Opens a file for reading and writing, created if missing and not truncated: a run that continues
/// needs its contents.
pub fn open_to_write(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_data_was_lost_nothing_more_is_vouched_for() {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal::open(place.path()).unwrap();
        journal.block(1, || Ok(())).unwrap();
        let lost = || Err(Error::damaged("disk", "no space"));
        journal.step(3, std::iter::empty()).unwrap();
        assert!(journal.block(2, lost).is_err());
        // The system tells of it once: the next sync seems to succeed.
        journal.block(3, || Ok(())).unwrap();
        journal.flush(|| Ok(())).unwrap();
        let entries = Journal::read(place.path()).unwrap();
        assert_eq!(entries.block, 1);
        assert!(entries.finished.is_empty());
    }
}
