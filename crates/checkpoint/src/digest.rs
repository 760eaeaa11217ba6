//! Digests that tell whether two runs started from the same files.

use std::{fmt::Write as _, fs::File, io::Read as _, path::Path};

use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// SHA-256 over the names and contents of files, in hexadecimal; reads them without mapping, so
/// that they do not count as memory.
pub fn of_files<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
        digest.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        let mut file = File::open(path).map_err(Error::io(path))?;
        loop {
            match file.read(&mut buffer).map_err(Error::io(path))? {
                0 => break,
                n => digest.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    }
    Ok(hexadecimal(&digest.finalize()))
}

/// SHA-256 of parts one after the other, in hexadecimal.
pub fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.for_each(|part| digest.update(part));
    hexadecimal(&digest.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
