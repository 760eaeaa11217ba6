//! The work directory: the unfinished output, and the state from which a killed run continues.
//!
//! ```text
//! OUT.compress-work/
//!     .fingerprint    digest of headers and task; written when all but the computed weights is in place
//!     .journal        a line of JSON for each finished step
//!     model/          the output directory, unfinished
//!     state/          checkpoints that a method keeps by itself
//!     trace/          residual streams between blocks, where those are compressed in order
//! ```
//!
//! Model and state are separate folders, so that one rename publishes the model and no state goes
//! with it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, Layout, Result,
    write::{
        durable,
        journal::{self, Entries, Journal},
        output::Identity,
    },
};

const FINGERPRINT: &str = ".fingerprint";
const MODEL: &str = "model";

/// The work directory of this run: a new one, or one that continues the same task.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
    fingerprint: String,
}

impl Work {
    /// Opens the work directory of a task (`fingerprint`), or creates it. A directory that cannot
    /// be continued is removed if it is this program's. Fails with [`Error::OtherWork`] where it
    /// belongs to another task and there is no `force`, and with [`Error::Output`] where something
    /// else is in the way.
    pub fn open(
        folder: PathBuf,
        fingerprint: String,
        layout: &Layout,
        force: bool,
    ) -> Result<Self> {
        let work = Self {
            folder,
            fingerprint,
        };
        if work.folder.symlink_metadata().is_ok() && !work.is_left_by_same_task(layout) {
            work.clear(force)?;
        }
        if !work.folder.exists() {
            fs::create_dir(&work.folder).map_err(Error::io(&work.folder))?;
        }
        Ok(work)
    }

    /// The path of the work directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The unfinished output.
    pub fn model(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// The place of a replaced output, where names cannot be exchanged atomically.
    pub fn spare(&self) -> PathBuf {
        self.folder.join("replaced")
    }

    /// Whether the weight files have their headers and all tensors that are not computed.
    pub fn is_laid_out(&self) -> bool {
        self.folder.join(FINGERPRINT).exists()
    }

    /// Writes the fingerprint, which says so; durable on return.
    pub fn set_laid_out(&self) -> Result<()> {
        durable::write(&self.folder.join(FINGERPRINT), self.fingerprint.as_bytes())
    }

    /// The folder for checkpoints of a method, such as those of training. Not created here.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Whether a method has left a checkpoint.
    pub fn has_state(&self) -> bool {
        fs::read_dir(self.state()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes the directory and everything in it.
    pub fn remove(&self) -> Result<()> {
        remove(&self.folder)
    }

    /// Whether the directory can be continued: same fingerprint, a journal of ours, weight files of
    /// the sizes in the layout, and the model not published.
    fn is_left_by_same_task(&self, layout: &Layout) -> bool {
        let mark = fs::read_to_string(self.folder.join(FINGERPRINT)).ok();
        let same = mark.as_ref() == Some(&self.fingerprint);
        // Without a readable journal nothing is known of the weight files.
        let Some(entries) = Journal::read(&self.folder).filter(|_| same) else {
            return false;
        };
        // Publishing exchanges two names. If the journal announced it and another folder is at
        // `model`, this is the output that was replaced, complete and not to be written to.
        let replaced =
            entries.publishing.is_some() && entries.publishing != Identity::of(&self.model());
        // A file of another size was truncated, or is of another layout.
        let whole = |shard: &crate::write::layout::Shard| {
            let size = fs::metadata(self.model().join(&shard.name)).map(|file| file.len());
            size.is_ok_and(|size| size == shard.bytes as u64)
        };
        !replaced && layout.shards.iter().all(whole)
    }

    /// Removes a directory that cannot be continued. Only what carries our journal, or is empty, is
    /// removed; a link never, since it may lead anywhere.
    fn clear(&self, force: bool) -> Result<()> {
        // Hours of another task's work are not deleted without `--force`.
        if self.is_laid_out() && !force && !self.is_of_this_task() {
            return Err(Error::OtherWork {
                path: self.folder.clone(),
            });
        }
        let empty = fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.next().is_none());
        let link = self.folder.is_symlink();
        if link || !(empty || Journal::read(&self.folder).is_some()) {
            let problem = "is in the way, and no work directory of this program; move it away";
            return Err(Error::Output {
                path: self.folder.clone(),
                problem: problem.into(),
            });
        }
        self.remove()
    }

    /// Whether the fingerprint is that of this task.
    fn is_of_this_task(&self) -> bool {
        let mark = fs::read_to_string(self.folder.join(FINGERPRINT));
        mark.is_ok_and(|mark| mark == self.fingerprint)
    }
}

/// Removes a work directory and everything in it, the journal last: what a kill leaves behind is still known for ours.
pub fn remove(work: &Path) -> Result<()> {
    for entry in fs::read_dir(work).map_err(Error::io(work))? {
        let path = entry.map_err(Error::io(work))?.path();
        if path.ends_with(journal::FILE) {
            continue;
        }
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(Error::io(&path))?;
    }
    fs::remove_dir_all(work).map_err(Error::io(work))
}

/// Whether the model of a work directory has its final name already: the journal announced the
/// folder that is now at `target`.
pub fn is_published(work: &Path, target: &Path) -> bool {
    let entries = Journal::read(work).unwrap_or_default();
    let Entries { publishing, .. } = entries;
    // After an exchange the target is the finished model, and `model` the one that it replaced.
    // Where the system has no identities nothing is taken for published.
    publishing.is_some()
        && publishing == Identity::of(target)
        && publishing != Identity::of(&work.join(MODEL))
}
