//! The header of a file: its metadata, and the place of each tensor.
//!
//! ```text
//! "GGUF", u32 version, u64 tensors, u64 metadata entries
//! metadata entries: key, type, value
//! tensor entries: name, dimensions, type, offset
//! padding to a multiple of general.alignment (32 where it is not given)
//! tensor data
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use crate::huggingface::{self, DIVISORS};
use crate::reader::Reader;
use crate::tensor::{Entry, LEAST_ENTRY};
use crate::{Error, Tensor, Value, dequantise, tokenizer};

/// The fewest bytes that a metadata entry takes: an empty key, a type, one byte. The count of
/// entries is checked by it.
const LEAST_METADATA: usize = 8 + 4 + 1;

/// The most divisors of rotary frequencies that are read: a head is nowhere near twice as wide.
const MOST_DIVISORS: usize = 4096;

/// A parsed header. The bytes of the file stay with the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    metadata: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// The divisors of the rotary frequencies, the one tensor whose numbers the config depends on;
    /// empty where the file has none.
    pub(crate) divisors: Vec<f32>,
}

impl Gguf {
    /// Parses the header of `file`, the bytes of the whole file: version 2 or 3, little endian. Of
    /// the tensors' data only `rope_freqs.weight` is read, since the config depends on it.
    ///
    /// Fails where the header is truncated or malformed, a key or name appears twice, or a tensor
    /// has a type that is not supported, an impossible shape, or data that are misaligned, outside
    /// the file or shared with another tensor. Memory is bounded by the length of the file,
    /// whatever counts it claims.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(file);
        check_magic(&mut reader)?;
        // Counts are checked against the length of the file before anything is allocated.
        let tensors = reader.count("the tensors", LEAST_ENTRY)?;
        let entries = reader.count("the metadata", LEAST_METADATA)?;
        let metadata = read_metadata(&mut reader, entries)?;
        let alignment = alignment(&metadata)?;
        let entries = (0..tensors)
            .map(|_| Entry::read(&mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        // The data begin after the last entry; on overflow every tensor lies outside the file.
        let start = reader
            .at()
            .checked_next_multiple_of(alignment)
            .unwrap_or(usize::MAX);
        let tensors = place(entries, start, file.len(), alignment)?;
        check_disjoint(&tensors)?;
        let divisors = divisors(&tensors, file)?;
        Ok(Self {
            metadata,
            tensors,
            divisors,
        })
    }

    /// The metadata by key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// What people should be told of how the file is read, where something in it is missing or has
    /// two meanings; empty for files without doubt. Fails where a key has a wrong type or the
    /// architecture is not known.
    pub fn warnings(&self) -> Result<Vec<String>, Error> {
        let found = [tokenizer::warning(self)?, huggingface::warning(self)?];
        Ok(found.into_iter().flatten().collect())
    }

    /// The tensors by their GGUF names, such as `blk.0.attn_q.weight`.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }
}

/// Checks the first eight bytes. Version 1 has 32-bit counts; a big-endian file shows as a huge
/// version.
fn check_magic(reader: &mut Reader) -> Result<(), Error> {
    let found = reader.array("the letters GGUF")?;
    if &found != b"GGUF" {
        return Err(Error::NotGguf { found });
    }
    match reader.u32("the version")? {
        2 | 3 => Ok(()),
        version => Err(Error::Version { version }),
    }
}

/// Reads the metadata. A second entry of a key is refused, since readers would differ in which they
/// take.
fn read_metadata(reader: &mut Reader, count: usize) -> Result<BTreeMap<String, Value>, Error> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        match metadata.entry(reader.text("a metadata key")?.to_owned()) {
            Slot::Occupied(slot) => {
                return Err(Error::DuplicateKey {
                    key: slot.key().clone(),
                });
            }
            Slot::Vacant(slot) => slot.insert(Value::read(reader)?),
        };
    }
    Ok(metadata)
}

/// The alignment of tensor data, a power of two; 32 where the file does not say.
fn alignment(metadata: &BTreeMap<String, Value>) -> Result<usize, Error> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else {
        return Ok(32);
    };
    let alignment = value.as_u64().ok_or_else(|| Error::WrongType {
        key: KEY.to_owned(),
        expected: "a whole number",
    })?;
    match usize::try_from(alignment) {
        Ok(size) if size.is_power_of_two() => Ok(size),
        _ => Err(Error::Alignment { alignment }),
    }
}

/// The tensors by name, with their byte ranges in the file.
fn place(
    entries: Vec<Entry>,
    start: usize,
    file: usize,
    alignment: usize,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut tensors = BTreeMap::new();
    for entry in entries {
        let (name, tensor) = entry.place(start, file, alignment)?;
        match tensors.entry(name) {
            Slot::Occupied(slot) => {
                return Err(Error::DuplicateTensor {
                    tensor: slot.key().clone(),
                });
            }
            Slot::Vacant(slot) => slot.insert(tensor),
        };
    }
    Ok(tensors)
}

/// Refuses tensors that overlap. Sorted by start, it is enough to compare neighbours.
fn check_disjoint(tensors: &BTreeMap<String, Tensor>) -> Result<(), Error> {
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| tensor.range.start);
    for ((first, before), (second, after)) in ordered.iter().zip(ordered.iter().skip(1)) {
        if after.range.start < before.range.end {
            return Err(Error::Overlap {
                first: (*first).clone(),
                second: (*second).clone(),
            });
        }
    }
    Ok(())
}

/// Decodes the divisors of the rotary frequencies; none where there are no such, or so many that
/// they fit no model.
fn divisors(tensors: &BTreeMap<String, Tensor>, file: &[u8]) -> Result<Vec<f32>, Error> {
    let size = |tensor: &Tensor| tensor.shape.iter().product();
    let Some((tensor, size)) = tensors
        .get(DIVISORS)
        .map(|tensor| (tensor, size(tensor)))
        .filter(|(_, size)| *size <= MOST_DIVISORS)
    else {
        return Ok(Vec::new());
    };
    let mut divisors = vec![0.0; size];
    let bytes = file.get(tensor.range.clone()).unwrap_or_default();
    dequantise(tensor.kind, bytes, &mut divisors)?;
    Ok(divisors)
}
