//! Numbers of evidence in safetensors files: written whole or not at all, read with a look at each.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use compress_checkpoint::put_in_place;
use compress_core::Symmetric;
use safetensors::{Dtype, SafeTensors, View};

use crate::{Error, Result};

/// The symmetric matrix of which a file has the lower triangle.
pub fn gram(path: &Path) -> Result<Symmetric> {
    let lower = read(path, "gram")?;
    // n(n + 1)/2 numbers solved for n; a length that is no triangle is refused below.
    let size = ((8.0 * lower.len() as f64 + 1.0).sqrt() as usize - 1) / 2;
    Symmetric::from_lower(size, lower)
        .ok_or_else(|| Error::damaged(path, &"`gram` is not a triangle"))
}

/// A tensor of a file as `f64`, all of its numbers finite; fails where the file is damaged or lacks the tensor.
pub fn read(path: &Path, name: &str) -> Result<Vec<f64>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::damaged(path, &e))?;
    let tensor = file.tensor(name).map_err(|e| Error::damaged(path, &e))?;
    let numbers: Vec<f64> = match tensor.dtype() {
        Dtype::F64 => {
            let numbers = tensor.data().as_chunks().0.iter();
            numbers.map(|b| f64::from_le_bytes(*b)).collect()
        }
        Dtype::F32 => {
            let numbers = tensor.data().as_chunks().0.iter();
            numbers.map(|b| f32::from_le_bytes(*b).into()).collect()
        }
        _ => return Err(Error::damaged(path, &format!("`{name}` holds no numbers"))),
    };
    if numbers.iter().any(|x| !x.is_finite()) {
        let problem = format!("`{name}` holds NaN or infinity");
        return Err(Error::damaged(path, &problem));
    }
    Ok(numbers)
}

/// A one-dimensional tensor for the safetensors writer; its bytes are made when they are written.
pub struct Numbers<'a> {
    all: &'a [f64],
    shape: [usize; 1],
    dtype: Dtype,
}

impl<'a> Numbers<'a> {
    pub const fn double(numbers: &'a [f64]) -> Self {
        Self {
            all: numbers,
            shape: [numbers.len()],
            dtype: Dtype::F64,
        }
    }

    pub const fn single(numbers: &'a [f64]) -> Self {
        let dtype = Dtype::F32;
        Self {
            dtype,
            ..Self::double(numbers)
        }
    }
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = self.all.iter();
        if self.dtype == Dtype::F32 {
            numbers.flat_map(|x| (*x as f32).to_le_bytes()).collect()
        } else {
            numbers.flat_map(|x| x.to_le_bytes()).collect()
        }
    }

    fn data_len(&self) -> usize {
        let each = if self.dtype == Dtype::F32 { 4 } else { 8 };
        each * self.all.len()
    }
}

/// Writes a file by way of a temporary name.
pub fn write(path: &Path, tensors: Vec<(&str, Numbers<'_>)>) -> Result<()> {
    let part = part(path);
    safetensors::serialize_to_file(tensors, None, &part).map_err(|e| Error::damaged(&part, &e))?;
    Ok(put_in_place(&part, path)?)
}

/// A temporary name beside a file; no other process or thread has it.
pub fn part(path: &Path) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{count}.part", process::id()));
    name.into()
}
