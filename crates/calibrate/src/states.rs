//! What is between the blocks, for all windows, on disk.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{Error, Result};

/// A number for each window, token and channel, being read.
pub struct States {
    path: PathBuf,
    file: Mutex<File>,
    window: usize,
}

impl States {
    /// Opens a finished file; `window` is how many numbers one window has.
    pub fn open(path: &Path, window: usize) -> Result<Self> {
        Ok(Self {
            path: path.into(),
            file: File::open(path).map_err(Error::io(path))?.into(),
            window,
        })
    }

    /// The numbers of one window.
    pub fn read(&self, index: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; 4 * self.window];
        let at = (index * bytes.len()) as u64;
        let mut file = lock(&self.file);
        let done = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut bytes));
        done.map_err(Error::io(&self.path))?;
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(bytes.chunks_exact(4).map(number).collect())
    }
}

/// The same being written: it takes its name when all windows are there.
pub struct Writing {
    path: PathBuf,
    unfinished: PathBuf,
    file: Mutex<File>,
}

impl Writing {
    /// Starts a file.
    pub fn new(path: &Path) -> Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".part");
        let unfinished = PathBuf::from(unfinished);
        let file = File::create(&unfinished).map_err(Error::io(&unfinished))?;
        Ok(Self {
            path: path.into(),
            unfinished,
            file: file.into(),
        })
    }

    /// Writes one window; from any thread, in any order.
    pub fn write(&self, index: usize, numbers: &[f32]) -> Result<()> {
        // Collecting them byte after byte would be no loop over vectors.
        let mut bytes = vec![0; 4 * numbers.len()];
        let places = bytes.as_chunks_mut::<4>().0.iter_mut();
        places
            .zip(numbers)
            .for_each(|(place, x)| *place = x.to_le_bytes());
        let at = (index * bytes.len()) as u64;
        let mut file = lock(&self.file);
        let done = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| file.write_all(&bytes));
        done.map_err(Error::io(&self.unfinished))
    }

    /// All windows are written.
    pub fn finish(self) -> Result<()> {
        drop(self.file);
        fs::rename(&self.unfinished, &self.path).map_err(Error::io(&self.path))
    }
}

/// A poisoned lock only means that another thread failed, which is reported by itself.
fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}
