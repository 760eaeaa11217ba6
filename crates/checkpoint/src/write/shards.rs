//! Open weight files of an output, filled in any order and from any thread.

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

/// One open file. Threads take turns by its lock, since a seek and a write belong together.
struct Shard {
    file: Mutex<File>,
    /// Whether it was written to since the last fsync.
    dirty: AtomicBool,
}

impl<'a> Shards<'a> {
    /// Opens the files in a folder, or creates them empty.
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

    /// The output directory that the files lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives every file its size and writes its header. Disk space is reserved where the file
    /// system can, so that a full disk is an error now and not after hours of work.
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

    /// Writes bytes of a tensor, `at` bytes from its start. Not durable until [`sync`](Self::sync).
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
        // Set after the write: a sync that has just cleared the flag cannot miss these bytes.
        open.dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// Encodes numbers in the tensor's dtype and writes them, `at` bytes from its start; returns
    /// how many bytes. Fails for NaN, infinity, and numbers beyond the range of f16.
    pub fn write_numbers(&self, placed: &Placed, at: usize, numbers: &[f32]) -> Result<usize> {
        let bytes = encode(placed, numbers, &self.folder)?;
        self.write(placed, at, &bytes)?;
        Ok(bytes.len())
    }

    /// Makes everything durable that was written so far: an fsync of each file that has changed.
    pub fn sync(&self) -> Result<()> {
        for (open, shard) in self.files.iter().zip(&self.layout.shards) {
            if open.dirty.swap(false, Ordering::AcqRel) {
                let synced = lock(&open.file).sync_data();
                // The data is still not on disk.
                if synced.is_err() {
                    open.dirty.store(true, Ordering::Release);
                }
                synced.map_err(Error::io(self.folder.join(&shard.name)))?;
            }
        }
        Ok(())
    }
}

/// Locks a file. A poisoned lock means that another thread failed, which is reported there.
fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocates disk space for a file, where the file system can.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    use rustix::{fs, io::Errno};
    match fs::fallocate(file, fs::FallocateFlags::empty(), 0, bytes) {
        // Not supported by this file system: a full disk is an error of a later write.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Other systems have no such call: there a full disk is an error of a later write.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_: &File, _: u64) -> std::io::Result<()> {
    Ok(())
}

/// Numbers in the dtype of a tensor, checked to be finite and within its range.
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
    // From 65520 on, f16 rounds to infinity; its largest number is 65504.
    if format == Format::F16 && largest >= 65520.0 {
        let problem = format!(
            "tensor `{}` has the number {largest}, too large for f16; give --dtype bf16 or f32",
            placed.name
        );
        return Err(Error::damaged(path, problem));
    }
    Ok(format.encode(numbers))
}

/// The largest absolute value; none where a number is NaN or infinite.
pub fn largest(numbers: &[f32]) -> Option<f32> {
    // x · 0 is 0 for every finite x, and NaN otherwise. A sum vectorises, an early return does not.
    let finite = numbers.iter().map(|x| x * 0.0).sum::<f32>() == 0.0;
    let largest = || numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    finite.then(largest)
}

/// The error of a tensor with NaN or infinity.
pub fn not_finite(placed: &Placed, path: &Path) -> Error {
    Error::not_finite(path, &placed.name)
}
