//! Residual streams of all windows on disk, as one file of `f32` in slots.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use compress_checkpoint::put_in_place;

use crate::{Error, Result};

/// A file with a slot of `slot` numbers for each window, read and written from any thread in any order.
pub struct States {
    path: PathBuf,
    file: Mutex<File>,
    /// Numbers per window.
    slot: usize,
}

impl States {
    /// Opens a file that exists; an error where it does not.
    pub fn open(path: &Path, slot: usize) -> Result<Self> {
        Self::with(path, slot, OpenOptions::new().read(true).write(true))
    }

    /// Creates a file, or empties one.
    pub fn create(path: &Path, slot: usize) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Self::with(path, slot, &options)
    }

    /// Opens a file with some options.
    fn with(path: &Path, slot: usize, options: &OpenOptions) -> Result<Self> {
        Ok(Self {
            path: path.into(),
            file: options.open(path).map_err(Error::io(path))?.into(),
            slot,
        })
    }

    /// The numbers of one window; fails where its slot was not written.
    pub fn read(&self, index: usize) -> Result<Vec<f32>> {
        self.read_first(index, self.slot)
    }

    /// The first `count` numbers of one window's slot.
    pub fn read_first(&self, index: usize, count: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; 4 * count];
        let mut file = lock(&self.file);
        // Only seeking and reading hold the lock; the conversion below runs in parallel.
        let done = file
            .seek(SeekFrom::Start(self.start(index)))
            .and_then(|_| file.read_exact(&mut bytes));
        drop(file);
        done.map_err(Error::io(&self.path))?;
        let numbers = bytes.as_chunks::<4>().0.iter();
        Ok(numbers.map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Writes numbers at the start of one window's slot.
    pub fn write(&self, index: usize, numbers: &[f32]) -> Result<()> {
        // As chunks, the conversion is vectorised; byte by byte it would not be.
        let mut bytes = vec![0; 4 * numbers.len()];
        let places = bytes.as_chunks_mut::<4>().0.iter_mut();
        places
            .zip(numbers)
            .for_each(|(place, x)| *place = x.to_le_bytes());
        let mut file = lock(&self.file);
        let done = file
            .seek(SeekFrom::Start(self.start(index)))
            .and_then(|_| file.write_all(&bytes));
        done.map_err(Error::io(&self.path))
    }

    /// Gives the file another name. It is not durable by that.
    pub fn rename(self, to: &Path) -> Result<()> {
        fs::rename(&self.path, to).map_err(Error::io(to))
    }

    /// The offset of a window's slot, in bytes.
    fn start(&self, index: usize) -> u64 {
        (4 * index * self.slot) as u64
    }
}

/// A file of states under way: written beside as `.part`, it takes its name when all windows are there.
pub struct Writing {
    path: PathBuf,
    states: States,
}

impl Writing {
    /// Starts a file with a slot of `slot` numbers for each window.
    pub fn new(path: &Path, slot: usize) -> Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".part");
        Ok(Self {
            path: path.into(),
            states: States::create(Path::new(&unfinished), slot)?,
        })
    }

    /// Writes one window; from any thread, in any order.
    pub fn write(&self, index: usize, numbers: &[f32]) -> Result<()> {
        self.states.write(index, numbers)
    }

    /// Gives the file its name; it is not durable by that.
    pub fn name(self) -> Result<()> {
        self.states.rename(&self.path)
    }

    /// Gives the file its name, and makes it durable; all windows must be written.
    pub fn finish(self) -> Result<()> {
        Ok(put_in_place(&self.states.path, &self.path)?)
    }
}

/// A poisoned lock only means that another thread failed, which is reported by itself.
fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}
