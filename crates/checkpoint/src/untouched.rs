//! What an output takes from its source without a method: tensors as they are, in another number format,
//! or rounded on their way.

use compress_core::{Contents, Factor, Matrix, Quantised, Scheme};

use crate::{
    Checkpoint, Error, Kind, Result,
    layout::{Content, Placed},
    shards::{Shards, largest, not_finite},
};

/// How many numbers are converted at a time.
const CHUNK: usize = 1 << 20;

/// Writes all tensors that no step computes.
pub fn write(source: &Checkpoint, shards: &Shards<'_>) -> Result<()> {
    for placed in &shards.layout.tensors {
        match &placed.content {
            Content::Copied(name) => copy(source, shards, placed, name)?,
            Content::Converted(name) => convert(source, shards, placed, name)?,
            Content::Rounded(name, scheme, suffix) => {
                round(source, shards, placed, (name, *scheme, suffix))?;
            }
            Content::Computed(..) => {}
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

/// Rounds a matrix a few rows at a time, and writes one of the tensors that gives.
fn round(
    source: &Checkpoint,
    shards: &Shards<'_>,
    placed: &Placed,
    (name, scheme, suffix): (&str, Scheme, &str),
) -> Result<()> {
    let [rows, cols] = source.tensor(name)?.shape[..] else {
        let problem = format!("tensor `{name}` is no matrix");
        return Err(Error::damaged(source.path(), problem));
    };
    if suffix == "weight_shape" {
        let shape = [rows, cols].map(|size| (size as i64).to_le_bytes());
        return shards.write(placed, 0, &shape.concat());
    }
    let some = (CHUNK / cols.max(1)).max(1);
    let mut written = 0;
    source.for_each_chunk(name, some * cols, |numbers| {
        largest(numbers).ok_or_else(|| not_finite(placed, source.path()))?;
        let part = Matrix::new(numbers.len() / cols, cols, numbers.to_vec())?;
        let part = Factor::Rounded {
            base: Quantised::nearest(&part, scheme)?,
            correction: None,
        };
        for (_, contents) in part.tensors().iter().filter(|(its, _)| *its == suffix) {
            let Contents::Bytes(bytes) = contents else {
                continue;
            };
            shards.write(placed, written, bytes)?;
            written += bytes.len();
        }
        Ok(())
    })
}
