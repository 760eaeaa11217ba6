//! A cursor over the header that never reads beyond the file; numbers are little endian.

use crate::Error;

/// The rest of the file, and the offset that it begins at.
pub(crate) struct Reader<'f> {
    left: &'f [u8],
    at: usize,
}

impl<'f> Reader<'f> {
    /// Starts at the first byte of the file.
    pub(crate) fn new(file: &'f [u8]) -> Self {
        Self { left: file, at: 0 }
    }

    /// Offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next `N` bytes; `what` names them in the error if the file ends before.
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let (bytes, left) = self
            .left
            .split_first_chunk()
            .ok_or_else(|| self.truncated(what, N as u64))?;
        self.left = left;
        self.at += N;
        Ok(*bytes)
    }

    /// The next four bytes as an unsigned integer.
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// The next eight bytes as an unsigned integer.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of items of at least `least` bytes each. Refused where the rest of the file is too
    /// short for them, so that memory for `count` items is bounded by the file's length.
    pub(crate) fn count(&mut self, what: &'static str, least: usize) -> Result<usize, Error> {
        let count = self.u64(what)?;
        // Saturates for absurd counts, which are then refused as too long.
        let needed = count.saturating_mul(least as u64);
        match usize::try_from(count) {
            Ok(count) if needed <= self.left.len() as u64 => Ok(count),
            _ => Err(self.truncated(what, needed)),
        }
    }

    /// A string: its length in bytes, then UTF-8. Fails at the end of the file and for other
    /// encodings.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'f str, Error> {
        let length = self.count(what, 1)?;
        let (bytes, left) = self
            .left
            .split_at_checked(length)
            .ok_or_else(|| self.truncated(what, length as u64))?;
        let text = str::from_utf8(bytes).map_err(|_| Error::Text { what, at: self.at })?;
        self.left = left;
        self.at += length;
        Ok(text)
    }

    /// The error that the file ends inside `what`.
    fn truncated(&self, what: &'static str, needed: u64) -> Error {
        Error::Truncated {
            what,
            at: self.at,
            needed,
            left: self.left.len(),
        }
    }
}
