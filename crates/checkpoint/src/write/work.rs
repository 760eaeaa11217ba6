//! The work directory: an output until it is finished, and what a killed run goes on from.
//!
//! ```text
//! OUT.compress-work/
//!     .fingerprint    which task it belongs to; with it, everything but the computed weights is in place
//!     .journal        a line for each finished step
//!     model/          the output to be
//!     state/          what a method goes on from by itself
//!     walk/           what is between the blocks, where those are done in order
//! ```
//!
//! State and model are apart, so that the model can get its name by one rename, and nothing of the state is
//! ever part of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, Layout, Result,
    write::{
        durable,
        journal::{Entries, Journal},
        output::Identity,
    },
};

const FINGERPRINT: &str = ".fingerprint";
const MODEL: &str = "model";

/// A work directory of this run, which is either new or goes on with the same task.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
    fingerprint: String,
}

impl Work {
    /// Opens or makes the work directory of a task. What another run has left there is removed where it
    /// cannot be gone on with: with `force` also that of another task.
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

    /// The directory itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The output to be.
    pub fn model(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// Where an earlier output goes that cannot be exchanged with the new one in one step.
    pub fn spare(&self) -> PathBuf {
        self.folder.join("replaced")
    }

    /// Whether everything but the computed weights is in place.
    pub fn is_laid_out(&self) -> bool {
        self.folder.join(FINGERPRINT).exists()
    }

    /// Notes that it is.
    pub fn set_laid_out(&self) -> Result<()> {
        durable::write(&self.folder.join(FINGERPRINT), self.fingerprint.as_bytes())
    }

    /// Where a method keeps what it goes on from by itself.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Whether there is anything.
    pub fn has_state(&self) -> bool {
        fs::read_dir(self.state()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes it.
    pub fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder))
    }

    fn is_left_by_same_task(&self, layout: &Layout) -> bool {
        let mark = fs::read_to_string(self.folder.join(FINGERPRINT)).ok();
        let same = mark.as_ref() == Some(&self.fingerprint);
        let Some(entries) = Journal::read(&self.folder).filter(|_| same) else {
            return false;
        };
        // After an exchange of names what lies here is the model that was replaced.
        let replaced =
            entries.publishing.is_some() && entries.publishing != Identity::of(&self.model());
        let whole = |shard: &crate::write::layout::Shard| {
            let size = fs::metadata(self.model().join(&shard.name)).map(|file| file.len());
            size.is_ok_and(|size| size == shard.bytes as u64)
        };
        !replaced && layout.shards.iter().all(whole)
    }

    fn clear(&self, force: bool) -> Result<()> {
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

    fn is_of_this_task(&self) -> bool {
        let mark = fs::read_to_string(self.folder.join(FINGERPRINT));
        mark.is_ok_and(|mark| mark == self.fingerprint)
    }
}

/// Whether the model of a work directory has got its name already.
pub fn is_published(work: &Path, target: &Path) -> bool {
    let entries = Journal::read(work).unwrap_or_default();
    let Entries { publishing, .. } = entries;
    publishing.is_some()
        && publishing == Identity::of(target)
        && publishing != Identity::of(&work.join(MODEL))
}
