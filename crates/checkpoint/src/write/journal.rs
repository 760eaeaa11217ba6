//! The journal of a work directory: a line of JSON for each finished step.
//!
//! A line is written only when the data that it vouches for is on disk, and is on disk itself before anyone
//! goes on from it. Syncing costs milliseconds, so lines are collected and written once a second: a
//! kill costs a second of work at most.

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

/// The finished steps by their place in the plan, and the errors of the weights each changed.
pub type Finished = BTreeMap<usize, Vec<(Site, f64)>>;

/// The journal's name in a work directory.
pub const FILE: &str = ".journal";

/// The time between two syncs.
const INTERVAL: Duration = Duration::from_secs(1);

/// The first line of a journal: a folder is removed as ours only where it has this.
const HEADER: &str = "{\"compress\":\"work directory\"}\n";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// A step is done.
    Step {
        index: usize,
        /// The bits of each error, since decimals may lose the last of them.
        errors: Vec<(Site, u64)>,
    },
    /// All of the network up to this block is done, and what is behind it lies in the work directory.
    Block(usize),
    /// The model is finished, and about to get its name.
    Publishing(Option<Identity>),
}

/// The contents of a journal.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// The finished steps.
    pub finished: Finished,
    /// The first block that is not done yet, where blocks are done in order.
    pub block: usize,
    /// The finished model's folder, where it was about to get its name.
    pub publishing: Option<Identity>,
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    state: Mutex<State>,
    before: Entries,
}

struct State {
    file: File,
    /// Lines that are not written yet.
    pending: String,
    synced: Instant,
    /// Whether it vouches for anything.
    vouches: bool,
    /// Whether data or a line could not be written: then nothing more is vouched for. The system tells of
    /// lost data once, so another try would seem to succeed.
    failed: bool,
}

impl Journal {
    /// Opens the journal of a work directory, or starts one. A last line that was cut short is cut off.
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
        file.set_len(whole as u64).map_err(Error::io(&path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(&path))?;
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

    /// The contents of a folder's journal; none where there is none of ours.
    pub fn read(work: &Path) -> Option<Entries> {
        let path = work.join(FILE);
        let text = std::fs::read_to_string(&path).ok()?;
        // A run that was killed at once has not even written all of the header.
        let ours = text.starts_with(HEADER) || HEADER.starts_with(&text);
        ours.then(|| parse(&path, &text).map(|(entries, _)| entries).ok())?
    }

    /// The steps and blocks that earlier runs have finished.
    pub const fn before(&self) -> &Entries {
        &self.before
    }

    /// Whether anything on disk is vouched for.
    pub fn vouches(&self) -> bool {
        self.state().vouches
    }

    /// Notes that a step is done.
    pub fn step(&self, index: usize, errors: impl Iterator<Item = (Site, f64)>) -> Result<()> {
        let errors = errors.map(|(site, error)| (site, error.to_bits()));
        let errors = errors.collect();
        self.add(&mut self.state(), &Line::Step { index, errors })
    }

    /// Writes the lines that wait if the last were written a second ago; `sync` makes last what they vouch for.
    pub fn flush_at_times(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        if state.synced.elapsed() < INTERVAL {
            return Ok(());
        }
        self.write(&mut state, sync)
    }

    /// Notes that everything before a block is done, and makes it last.
    pub fn block(&self, first: usize, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        self.add(&mut state, &Line::Block(first))?;
        self.write(&mut state, sync)
    }

    /// Notes that the finished model is about to get its name.
    pub fn publishing(&self, model: Option<Identity>) -> Result<()> {
        let mut state = self.state();
        self.add(&mut state, &Line::Publishing(model))?;
        self.write(&mut state, || Ok(()))
    }

    /// Writes the lines that wait; `sync` makes last what they vouch for.
    pub fn flush(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        self.write(&mut self.state(), sync)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that another thread failed, which is reported by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, state: &mut State, line: &Line) -> Result<()> {
        let line = serde_json::to_string(line);
        state.pending += &line.map_err(|e| Error::damaged(&self.path, e.to_string()))?;
        state.pending.push('\n');
        Ok(())
    }

    fn write(&self, state: &mut State, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let lines = std::mem::take(&mut state.pending);
        if lines.is_empty() || state.failed {
            return Ok(());
        }
        // Until all of this is done nothing can be said of it.
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

/// The contents of all complete lines, and their length in bytes: a kill may have left half a line behind them.
fn parse(path: &Path, text: &str) -> Result<(Entries, usize)> {
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut entries = Entries::default();
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

/// Opens a file to go on with, or makes it.
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
