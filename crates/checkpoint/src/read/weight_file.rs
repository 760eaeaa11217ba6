//! A weight file that is read by positioned reads rather than through a mapping.
//!
//! Pages of a mapping that were once touched count as resident memory of the process until it ends,
//! so a model larger than memory would look as if it were all loaded. Only the header is parsed
//! through a mapping, which is dropped afterwards.

use std::{fs::File, io, ops::Range, path::PathBuf};

use memmap2::Mmap;

use crate::{Error, Result, read::mistaken};

/// An open weight file. Reads take the position as an argument, so that threads can share it.
pub struct WeightFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: usize,
    file: File,
}

impl WeightFile {
    /// Opens a file. Fails where it is missing, unreadable or empty; an empty file cannot be
    /// mapped.
    pub fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len() as usize;
        if size == 0 {
            return Err(Error::damaged(path, "the file is empty"));
        }
        let file = Self { path, size, file };
        let start = file.read(0..size.min(mistaken::BEGINNING))?;
        mistaken::check_contents(&file.path, &start)?;
        Ok(file)
    }

    /// Maps the file, calls `look` with all of its bytes and drops the mapping. Pages that `look`
    /// touches are in memory until then. Fails where the file cannot be mapped.
    pub fn look<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
        // SAFETY: the mapping is only read. Should another program shorten the file meanwhile,
        // reading past its new end ends this process: the price that every mapping reader pays.
        #[expect(unsafe_code, reason = "memory mapping has no safe interface")]
        let bytes = unsafe { Mmap::map(&self.file) }.map_err(Error::io(&self.path))?;
        Ok(look(&bytes))
    }

    /// Reads a range of bytes into a new buffer, from any thread. Fails at the end of the file.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; range.len()];
        read_exact_at(&self.file, &mut bytes, range.start as u64).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }
}

/// `pread` until the buffer is full.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

/// The same with `seek_read`, which may return fewer bytes than were asked for. It moves the file's
/// own position, which nothing here uses.
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
