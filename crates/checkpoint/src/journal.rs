//! The journal of a work directory: a line of JSON for each finished step.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use compress_core::Site;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The finished steps by their place in the plan, and the errors of the weights each changed.
pub type Finished = BTreeMap<usize, Vec<(Site, f64)>>;

/// The journal's name in a work directory.
pub const FILE: &str = ".journal";

#[derive(Serialize, Deserialize)]
struct Line {
    step: usize,
    /// The bits of each error, since decimals may lose the last of them.
    errors: Vec<(Site, u64)>,
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    finished: Finished,
}

impl Journal {
    /// Opens the journal of a work directory, or starts one. A last line that was cut short is cut off.
    pub fn open(work: &Path) -> Result<Self> {
        let path = work.join(FILE);
        let mut file = open_to_write(&path)?;
        file.try_lock().map_err(|_| Error::Output {
            path: work.into(),
            problem: "another run is writing here; wait for it, or choose another output".into(),
        })?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::io(&path))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut finished = BTreeMap::new();
        for line in text.get(..whole).unwrap_or_default().lines() {
            let line = serde_json::from_str(line);
            let Line { step, errors } = line.map_err(|e| Error::damaged(&path, e.to_string()))?;
            let errors = errors
                .into_iter()
                .map(|(site, bits)| (site, f64::from_bits(bits)));
            finished.insert(step, errors.collect());
        }
        file.set_len(whole as u64).map_err(Error::io(&path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(&path))?;
        Ok(Self {
            path,
            file: Mutex::new(file),
            finished,
        })
    }

    /// What earlier runs have finished.
    pub const fn finished(&self) -> &Finished {
        &self.finished
    }

    /// Notes that a step is done.
    pub fn note(&self, step: usize, errors: impl Iterator<Item = (Site, f64)>) -> Result<()> {
        let errors = errors
            .map(|(site, error)| (site, error.to_bits()))
            .collect();
        let line = serde_json::to_string(&Line { step, errors });
        let line = line.map_err(|e| Error::damaged(&self.path, e.to_string()))? + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
            .map_err(Error::io(&self.path))
    }
}

/// Opens a file to go on with, or makes it.
pub fn open_to_write(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(Error::io(path))
}
