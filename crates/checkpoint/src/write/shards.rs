//! The weight files of an output while they are being filled, in any order and from any thread.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use compress_core::Format;

use crate::{
    Error, Kind, Layout, Result,
    read::tensor::FLOATS,
    write::{journal::open_to_write, layout::Placed},
};

/// The open weight files of a layout.
pub struct Shards<'a> {
    pub layout: &'a Layout,
    folder: PathBuf,
    files: Vec<Shard>,
}

struct Shard {
    file: Mutex<File>,
    /// Whether anything was written since the last sync.
    dirty: AtomicBool,
}

impl<'a> Shards<'a> {
    /// Opens or makes the files in a folder.
    pub fn open(layout: &'a Layout, folder: PathBuf) -> Result<Self> {
        let open = |shard: &crate::write::layout::Shard| {
            Ok(Shard {
                file: open_to_write(&folder.join(&shard.name))?.into(),
                dirty: AtomicBool::new(false),
            })
        };
        let files = layout.shards.iter().map(open).collect::<Result<_>>()?;
        Ok(Self {
            layout,
            folder,
            files,
        })
    }

    /// The folder they lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives every file its size and its header. The space is taken now, so that a full disk shows before
    /// the work and not after hours of it.
    pub fn start(&self) -> Result<()> {
        for (open, shard) in self.files.iter().zip(&self.layout.shards) {
            let path = self.folder.join(&shard.name);
            let mut file = lock(&open.file);
            let started = file
                .set_len(shard.bytes as u64)
                .and_then(|()| reserve(&file, shard.bytes as u64))
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .and_then(|_| file.write_all(&shard.header));
            started.map_err(Error::io(path))?;
        }
        Ok(())
    }

    /// Writes some bytes of a tensor, which begin `at` bytes after its first.
    pub fn write(&self, placed: &Placed, at: usize, bytes: &[u8]) -> Result<()> {
        let (Some(open), Some(shard)) = (
            self.files.get(placed.file),
            self.layout.shards.get(placed.file),
        ) else {
            let problem = format!("no file for `{}`", placed.name);
            return Err(Error::damaged(&self.folder, problem));
        };
        let mut file = lock(&open.file);
        let start = (placed.offset + at) as u64;
        let done = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| file.write_all(bytes));
        done.map_err(Error::io(self.folder.join(&shard.name)))?;
        open.dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes numbers in a tensor's format.
    pub fn write_numbers(&self, placed: &Placed, at: usize, numbers: &[f32]) -> Result<usize> {
        let bytes = encode(placed, numbers, &self.folder)?;
        self.write(placed, at, &bytes)?;
        Ok(bytes.len())
    }

    /// Makes all that was written last.
    pub fn sync(&self) -> Result<()> {
        for (open, shard) in self.files.iter().zip(&self.layout.shards) {
            if open.dirty.swap(false, Ordering::AcqRel) {
                let synced = lock(&open.file).sync_data();
                if synced.is_err() {
                    open.dirty.store(true, Ordering::Release);
                }
                synced.map_err(Error::io(self.folder.join(&shard.name)))?;
            }
        }
        Ok(())
    }
}

/// A poisoned lock only means that another thread failed, which is reported by itself.
fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the space of a file on disk, where the file system can.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    use rustix::{fs, io::Errno};
    match fs::fallocate(file, fs::FallocateFlags::empty(), 0, bytes) {
        // Then a full disk shows later.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_: &File, _: u64) -> std::io::Result<()> {
    Ok(())
}

/// The bytes of the numbers in the tensor's format; a number that does not fit is an error.
fn encode(placed: &Placed, numbers: &[f32], path: &Path) -> Result<Vec<u8>> {
    let Kind::Float(format) = placed.kind else {
        let found = placed.kind.to_string();
        return Err(Error::NumberType {
            path: path.into(),
            name: placed.name.clone(),
            found,
            wanted: FLOATS,
        });
    };
    let largest = largest(numbers).ok_or_else(|| not_finite(placed, path))?;
    if format == Format::F16 && largest >= 65520.0 {
        let problem = format!(
            "tensor `{}` has the number {largest}, too large for f16; give --dtype bf16 or f32",
            placed.name
        );
        return Err(Error::damaged(path, problem));
    }
    Ok(format.encode(numbers))
}

/// The largest absolute value; none where a number is not finite.
pub fn largest(numbers: &[f32]) -> Option<f32> {
    // The sum of x·0 is 0, unless an x is NaN or infinite.
    let finite = numbers.iter().map(|x| x * 0.0).sum::<f32>() == 0.0;
    let largest = || numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    finite.then(largest)
}

/// For a tensor with a number that is not finite.
pub fn not_finite(placed: &Placed, path: &Path) -> Error {
    let problem = format!(
        "tensor `{}` holds NaN or infinity; the model is damaged",
        placed.name
    );
    Error::damaged(path, problem)
}
