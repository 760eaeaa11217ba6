//! The header of a file: its metadata, and where each tensor lies.
//!
//! In order: the letters `GGUF`, the version, the numbers of tensors and of metadata entries, the
//! metadata, an entry for each tensor; then, from the next multiple of `general.alignment` (32
//! where it is not given), the tensors' data.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use crate::reader::Reader;
use crate::tensor::{Entry, LEAST_ENTRY};
use crate::{Error, Tensor, Value};

/// The fewest bytes that a metadata entry takes: an empty key, a type, one byte.
const LEAST_METADATA: usize = 8 + 4 + 1;

/// A parsed header. The file's bytes stay with the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

impl Gguf {
    /// Reads the header of `file`, version 2 or 3 in little endian.
    ///
    /// Fails where the header is cut short or malformed, a key or name appears twice, or a tensor
    /// has a type that is not supported, an impossible shape, or data that are misaligned, outside
    /// the file or shared with another tensor. Memory grows with the file's length, whatever counts
    /// it claims.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(file);
        check_magic(&mut reader)?;
        let tensors = reader.count("the tensors", LEAST_ENTRY)?;
        let entries = reader.count("the metadata", LEAST_METADATA)?;
        let metadata = read_metadata(&mut reader, entries)?;
        let alignment = alignment(&metadata)?;
        let entries = (0..tensors)
            .map(|_| Entry::read(&mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        let start = reader
            .at()
            .checked_next_multiple_of(alignment)
            .unwrap_or(usize::MAX);
        let tensors = place(entries, start, file.len(), alignment)?;
        check_disjoint(&tensors)?;
        Ok(Self { metadata, tensors })
    }

    /// The metadata by key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The tensors by the name they have in the file.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }
}

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
