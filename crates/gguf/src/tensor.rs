//! The header's entry for one tensor.

use std::ops::Range;

use crate::reader::Reader;
use crate::{BlockType, Error};

/// The fewest bytes that an entry takes: an empty name, one dimension, type, offset.
pub(crate) const LEAST_ENTRY: usize = 8 + 4 + 8 + 4 + 8;

/// Where a tensor lies and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// How its values are packed.
    pub kind: BlockType,
    /// Its dimensions, outermost first (a matrix is rows × columns): the reverse of the order in
    /// the file.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

/// A tensor as its header entry describes it, before the start of the data is known.
pub(crate) struct Entry {
    pub(crate) name: String,
    kind: BlockType,
    shape: Vec<usize>,
    size: usize,
    offset: u64,
}

impl Entry {
    /// Reads an entry, and checks everything that needs nothing but itself.
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

    /// The tensor, whose offset counts from byte `start` of a file of `file` bytes.
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
                },
            )),
            _ => Err(Error::OutOfRange {
                tensor: self.name,
                file,
            }),
        }
    }

    fn range(&self, start: usize) -> Option<Range<usize>> {
        let start = start.checked_add(usize::try_from(self.offset).ok()?)?;
        Some(start..start.checked_add(self.size)?)
    }
}

/// The dimensions, outermost first.
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
    dims.reverse();
    Ok(dims)
}

/// The shape and the bytes it takes; nothing where it is empty, too large, or a row is not whole
/// blocks.
fn extent(kind: BlockType, dims: &[u64]) -> Option<(Vec<usize>, usize)> {
    let shape = dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect::<Option<Vec<_>>>()?;
    let values = shape
        .iter()
        .try_fold(1_usize, |values, &dim| values.checked_mul(dim))?;
    if values == 0 || !shape.last()?.is_multiple_of(kind.values()) {
        return None;
    }
    let size = (values / kind.values()).checked_mul(kind.bytes())?;
    Some((shape, size))
}
