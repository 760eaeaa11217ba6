//! SHA-256 digests of files, by which a run recognises its model and its own work directory.
//!
//! A digest of weight files identifies the source in the record and in cached evidence; a digest of
//! headers and options is the fingerprint of a work directory. Cost: one sequential read of the
//! files.

use std::{fmt::Write as _, fs::File, io::Read as _, path::Path};

use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// SHA-256 over the names and contents of files, in lower-case hexadecimal. The path is left out,
/// so that a moved model keeps its digest. Files are read through a buffer of 1 MiB and not mapped,
/// since mapped pages would count as resident memory. Fails where a file cannot be read.
pub fn of_files<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
        // The name counts, so that swapped shards give another digest.
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

/// SHA-256 of the concatenated parts, in hexadecimal. Boundaries between parts do not count.
pub fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.for_each(|part| digest.update(part));
    hexadecimal(&digest.finalize())
}

/// Lower-case hexadecimal, two digits per byte.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
