//! Tensors that no method computes: copied, converted to another dtype, or rounded, in chunks.
//!
//! Every number passes through once and is checked to be finite, since a NaN in the source would
//! otherwise reach the output unseen. Memory: one chunk.

use compress_core::{Factor, Matrix, Quantised, Scheme, Site, Store};

use crate::{
    Checkpoint, Error, Kind, Result,
    names::{self, Contents},
    write::{
        layout::{Content, Placed},
        shards::{Shards, largest, not_finite},
    },
};

/// Numbers (or bytes, where copied) that are in memory at a time: 4 MiB of `f32`.
const CHUNK: usize = 1 << 20;

/// Writes all tensors of the layout that no step computes.
pub fn write(source: &Checkpoint, shards: &Shards<'_>) -> Result<()> {
    for placed in &shards.layout.tensors {
        match &placed.content {
            Content::Copied(name) => copy(source, shards, placed, name)?,
            Content::Converted(name) => convert(source, shards, placed, name)?,
            Content::Rounded(site, scheme) => round(source, shards, placed, (*site, *scheme))?,
            Content::Computed(_) | Content::Shared(_) => {}
        }
    }
    Ok(())
}

/// Copies a tensor byte by byte. Floats are decoded first only to be checked, which reads them
/// twice.
fn copy(source: &Checkpoint, shards: &Shards<'_>, placed: &Placed, name: &str) -> Result<()> {
    // Codes and shapes have no NaN.
    if matches!(placed.kind, Kind::Float(_)) {
        let path = source.path();
        source.for_each_chunk(name, CHUNK, |numbers| {
            largest(numbers).map_or_else(|| Err(not_finite(placed, path)), |_| Ok(()))
        })?;
    }
    let mut written = 0;
    source.for_each_bytes(name, CHUNK, |bytes| {
        shards.write(placed, written, bytes)?;
        written += bytes.len();
        Ok(())
    })
}

/// Decodes a tensor and encodes it in the dtype of its place, a chunk at a time.
fn convert(source: &Checkpoint, shards: &Shards<'_>, placed: &Placed, name: &str) -> Result<()> {
    let mut written = 0;
    source.for_each_chunk(name, CHUNK, |numbers| {
        largest(numbers).ok_or_else(|| not_finite(placed, source.path()))?;
        written += shards.write_numbers(placed, written, numbers)?;
        Ok(())
    })
}

/// Rounds a weight to nearest, some rows at a time, and writes one of the tensors of the result.
/// Called once for each of them, so codes and scales cost two passes; rows are rounded
/// independently, which makes that possible.
fn round(
    source: &Checkpoint,
    shards: &Shards<'_>,
    placed: &Placed,
    (site, scheme): (Site, Scheme),
) -> Result<()> {
    let name = &names::weight(site);
    let [rows, cols] = source.tensor(name)?.shape[..] else {
        let problem = format!("tensor `{name}` is no matrix");
        return Err(Error::damaged(source.path(), problem));
    };
    // The stored shape is that of the whole matrix, not of a chunk of rows.
    if placed.name.ends_with(".weight_shape") {
        let shape = [rows, cols].map(|size| (size as i64).to_le_bytes());
        return shards.write(placed, 0, &shape.concat());
    }
    // Whole rows, as groups do not cross rows.
    let some = (CHUNK / cols.max(1)).max(1);
    let mut written = 0;
    source.for_each_chunk(name, some * cols, |numbers| {
        largest(numbers).ok_or_else(|| not_finite(placed, source.path()))?;
        let part = Matrix::new(numbers.len() / cols, cols, numbers.to_vec())?;
        let part = Factor::Whole(Store::Quantised(Quantised::nearest(&part, scheme)?));
        // Each call writes one tensor in order; the others of this chunk are for other calls.
        for (name, contents) in names::contents(site, &part) {
            if let (true, Contents::Bytes(bytes)) = (name == placed.name, contents) {
                shards.write(placed, written, &bytes)?;
                written += bytes.len();
            }
        }
        Ok(())
    })
}
