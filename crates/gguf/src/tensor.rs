//! The header entry of one tensor.
//!
//! ```text
//! u64 length, name | u32 dimensions | u64 each, innermost first | u32 type | u64 offset in the data
//! ```

use std::ops::Range;

use crate::reader::Reader;
use crate::{BlockType, Error};

/// The fewest bytes that an entry takes: an empty name, one dimension, type, offset. The count of
/// tensors is checked by it.
pub(crate) const LEAST_ENTRY: usize = 8 + 4 + 8 + 4 + 8;

/// Format, shape and byte range of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The format of its values.
    pub kind: BlockType,
    /// Sizes, outermost first (rows × columns for a matrix): the reverse of the order in the file.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
    /// The part of a split model whose file has the bytes, from 0 on.
    pub part: usize,
}

/// An entry as parsed; the start of the data is known only after the last entry.
pub(crate) struct Entry {
    pub(crate) name: String,
    kind: BlockType,
    shape: Vec<usize>,
    size: usize,
    offset: u64,
}

impl Entry {
    /// Parses an entry and checks rank, format and shape.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, Error> {
        let name = reader.text("a tensor's name")?.to_owned();
        let dims = dimensions(reader, &name)?;
        let kind = BlockType::from_id(reader.u32("a tensor's type")?).map_err(|kind| {
            Error::UnsupportedType {
                tensor: name.clone(),
                kind,
            }
        })?;
        let offset = reader.u64("a tensor's offset")?;
        let Some((shape, size)) = extent(kind, &dims) else {
            return Err(Error::Shape {
                tensor: name,
                kind,
                shape: dims,
            });
        };
        Ok(Self {
            name,
            kind,
            shape,
            size,
            offset,
        })
    }

    /// The tensor in a file of `file` bytes whose data begin at byte `start`. Fails where the
    /// offset is not a multiple of `alignment`, or the data end beyond the file.
    pub(crate) fn place(
        self,
        start: usize,
        file: usize,
        alignment: usize,
    ) -> Result<(String, Tensor), Error> {
        if !self.offset.is_multiple_of(alignment as u64) {
            return Err(Error::Misaligned {
                tensor: self.name,
                offset: self.offset,
                alignment,
            });
        }
        match self.range(start) {
            Some(range) if range.end <= file => Ok((
                self.name,
                Tensor {
                    kind: self.kind,
                    shape: self.shape,
                    range,
                    part: 0,
                },
            )),
            _ => Err(Error::OutOfRange {
                tensor: self.name,
                file,
            }),
        }
    }

    /// Its bytes from the start of the file; none where that overflows.
    fn range(&self, start: usize) -> Option<Range<usize>> {
        let start = start.checked_add(usize::try_from(self.offset).ok()?)?;
        Some(start..start.checked_add(self.size)?)
    }
}

/// One to four dimensions, outermost first.
fn dimensions(reader: &mut Reader, tensor: &str) -> Result<Vec<u64>, Error> {
    let count = reader.u32("a tensor's rank")?;
    if !(1..=4).contains(&count) {
        return Err(Error::Rank {
            tensor: tensor.to_owned(),
            dimensions: count,
        });
    }
    let mut dims = (0..count)
        .map(|_| reader.u64("a tensor's shape"))
        .collect::<Result<Vec<_>, _>>()?;
    // The file has the innermost dimension first.
    dims.reverse();
    Ok(dims)
}

/// The shape and its size in bytes; none where the tensor is empty, too large for an address, or a
/// row is not a whole number of blocks.
fn extent(kind: BlockType, dims: &[u64]) -> Option<(Vec<usize>, usize)> {
    let shape = dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect::<Option<Vec<_>>>()?;
    // Checked, as a product that wraps around would pass for a small tensor.
    let values = shape
        .iter()
        .try_fold(1_usize, |values, &dim| values.checked_mul(dim))?;
    if values == 0 || !shape.last()?.is_multiple_of(kind.values()) {
        return None;
    }
    let size = (values / kind.values()).checked_mul(kind.bytes())?;
    Some((shape, size))
}
