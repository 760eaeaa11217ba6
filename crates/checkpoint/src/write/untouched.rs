//! The tensors that an output takes from its source without a method: as they are, in another number format,
//! or rounded on their way.

use compress_core::{Factor, Matrix, Quantised, Scheme, Site, Store};

use crate::{
    Checkpoint, Error, Kind, Result,
    names::{self, Contents},
    write::{
        layout::{Content, Placed},
        shards::{Shards, largest, not_finite},
    },
};

/// How many numbers are converted at a time.
const CHUNK: usize = 1 << 20;

/// Writes all tensors that no step computes.
pub fn write(source: &Checkpoint, shards: &Shards<'_>) -> Result<()> {
    for placed in &shards.layout.tensors {
        match &placed.content {
            Content::Copied(name) => copy(source, shards, placed, name)?,
            Content::Converted(name) => convert(source, shards, placed, name)?,
            Content::Rounded(site, scheme) => round(source, shards, placed, (*site, *scheme))?,
            Content::Computed(_) => {}
        }
    }
    Ok(())
}

/// Copies a tensor byte by byte, and refuses one with a number that is not finite.
fn copy(source: &Checkpoint, shards: &Shards<'_>, placed: &Placed, name: &str) -> Result<()> {
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

/// Converts a tensor a few rows at a time.
fn convert(source: &Checkpoint, shards: &Shards<'_>, placed: &Placed, name: &str) -> Result<()> {
    let mut written = 0;
    source.for_each_chunk(name, CHUNK, |numbers| {
        largest(numbers).ok_or_else(|| not_finite(placed, source.path()))?;
        written += shards.write_numbers(placed, written, numbers)?;
        Ok(())
    })
}

/// Rounds a weight a few rows at a time, and writes one of the tensors that gives.
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
    // The shape is that of all rows; everything else comes row by row.
    if placed.name.ends_with(".weight_shape") {
        let shape = [rows, cols].map(|size| (size as i64).to_le_bytes());
        return shards.write(placed, 0, &shape.concat());
    }
    let some = (CHUNK / cols.max(1)).max(1);
    let mut written = 0;
    source.for_each_chunk(name, some * cols, |numbers| {
        largest(numbers).ok_or_else(|| not_finite(placed, source.path()))?;
        let part = Matrix::new(numbers.len() / cols, cols, numbers.to_vec())?;
        let part = Factor::Whole(Store::Quantised(Quantised::nearest(&part, scheme)?));
        for (name, contents) in names::contents(site, &part) {
            if let (true, Contents::Bytes(bytes)) = (name == placed.name, contents) {
                shards.write(placed, written, &bytes)?;
                written += bytes.len();
            }
        }
        Ok(())
    })
}
