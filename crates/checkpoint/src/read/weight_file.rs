//! A weight file, of which nothing stays in memory but what was asked for.
//!
//! Tensors are read from where they lie, not through a mapping: mapped pages that were once looked at
//! count as this program's memory until it ends. Only the header is looked at through one, for as long as
//! it is parsed.

use std::{fs::File, io, ops::Range, path::PathBuf};

use memmap2::Mmap;

use crate::{Error, Result};

/// An open weight file.
pub struct WeightFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: usize,
    file: File,
}

impl WeightFile {
    /// Opens a file; fails when it is missing, unreadable or empty.
    pub fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len() as usize;
        if size == 0 {
            return Err(Error::damaged(path, "the file is empty"));
        }
        Ok(Self { path, size, file })
    }

    /// Applies `look` to the mapped bytes; pages that it touches are in memory until it is done.
    pub fn look<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
        // SAFETY: the mapping is only read. Should another program shorten the file meanwhile, reading
        // past its new end ends this process: the price that every mapping reader pays.
        #[expect(unsafe_code, reason = "memory mapping has no safe interface")]
        let bytes = unsafe { Mmap::map(&self.file) }.map_err(Error::io(&self.path))?;
        Ok(look(&bytes))
    }

    /// Reads bytes from a place in the file; from any thread.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; range.len()];
        read_exact_at(&self.file, &mut bytes, range.start as u64).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}
