//! Decoding of tensors to `f32`: whole, in chunks of a given size, or a few rows at a time.
//!
//! Bytes are read in pieces from the file, so that beside the result only one piece per thread is
//! in memory.

use std::ops::Range;

use compress_core::{Form, Site};
use compress_gguf::dequantise;
use rayon::prelude::*;

use crate::{
    Checkpoint, Error, Kind, Result, Tensor, names,
    read::{tensor::FLOATS, weight_file::WeightFile},
};

/// Numbers that are decoded at a time: a multiple of the 256 values of the largest GGUF block, and
/// small enough that a piece and its bytes stay in a core's second-level cache.
const PIECE: usize = 1 << 17;

impl Checkpoint {
    /// The bytes of a tensor as they are in the file. Fails where it is missing or the file cannot
    /// be read.
    pub fn raw(&self, name: &str) -> Result<Vec<u8>> {
        let tensor = self.tensor(name)?;
        self.file(tensor, name)?.read(tensor.range.clone())
    }

    /// Some of the bytes of a tensor, counted from its first.
    pub(crate) fn part(&self, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        self.bytes(self.tensor(name)?, name, part)
    }

    /// The same of a tensor that is, or is part of, the one called `name`.
    fn bytes(&self, tensor: &Tensor, name: &str, part: Range<usize>) -> Result<Vec<u8>> {
        let start = tensor.range.start;
        let range = start + part.start..start + part.end;
        if range.end > tensor.range.end {
            return Err(self.cut_short(name));
        }
        self.file(tensor, name)?.read(range)
    }

    /// Calls `take` with the bytes of a tensor in order, at most `limit` at a time; only those are
    /// in memory. Stops at the first error.
    pub(crate) fn for_each_bytes(
        &self,
        name: &str,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let tensor = self.tensor(name)?;
        let file = self.file(tensor, name)?;
        tensor.range.clone().step_by(limit).try_for_each(|first| {
            let last = tensor.range.end.min(first + limit);
            take(&file.read(first..last)?)
        })
    }

    /// All numbers of a tensor as `f32`, row by row in Hugging Face's order, an adapter's scale
    /// multiplied in. Takes 4 bytes for each, and a piece per thread.
    ///
    /// Decodes on all cores when called from outside a thread pool, else on the calling thread
    /// only: inside a pool, other weights are being worked on. Fails where the tensor is missing,
    /// has another dtype than floats or blocks, or cannot be read.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let mut numbers = vec![0.0; tensor.size()];
        let decode =
            |(index, piece): (usize, &mut [f32])| self.decode(name, tensor, index * PIECE, piece);
        // A worker that waited here could steal a task of its own pool, and hold two weights in
        // memory.
        if rayon::current_thread_index().is_none() {
            let pieces = numbers.par_chunks_mut(PIECE).enumerate();
            pieces.try_for_each(decode)?;
        } else {
            let mut pieces = numbers.chunks_mut(PIECE).enumerate();
            pieces.try_for_each(decode)?;
        }
        if let Some(gguf) = &self.gguf {
            gguf.reorder(name, &mut numbers)?;
        }
        Ok(numbers)
    }

    /// Calls `take` with the numbers of a tensor in order, `limit` at a time. A reordered tensor of
    /// a GGUF file is decoded whole first, since its rows are gathered from all over a head.
    pub(crate) fn for_each_chunk(
        &self,
        name: &str,
        limit: usize,
        mut take: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let tensor = self.tensor(name)?;
        let (values, _) = self.block(tensor, name)?;
        let reordered = self.gguf.as_ref().map(|gguf| gguf.is_reordered(name));
        // Chunks that do not end at block boundaries cannot be decoded by themselves either.
        if reordered.transpose()? == Some(true) || !limit.is_multiple_of(values) {
            return self.numbers(name)?.chunks(limit).try_for_each(take);
        }
        let mut numbers = vec![0.0; limit.min(tensor.size())];
        (0..tensor.size()).step_by(limit).try_for_each(|first| {
            let numbers = &mut numbers[..limit.min(tensor.size() - first)];
            self.decode(name, tensor, first, numbers)?;
            take(numbers)
        })
    }

    /// Whether a weight is one matrix of floats, so that [`rows`](Self::rows) can read some of its
    /// rows.
    #[must_use]
    pub fn has_rows(&self, site: Site) -> bool {
        self.forms().get(&site) == Some(&Form::WHOLE)
    }

    /// Decodes rows of a weight from row `first` on, as many as fill `numbers`; its length is to be
    /// a multiple of the columns. Reads nothing else of the tensor, so an embedding costs only the
    /// rows of the tokens in use.
    ///
    /// Fails where the weight is kept in another form ([`has_rows`](Self::has_rows)), and beyond the last row. In a
    /// GGUF file the rows of query and key come in the file's own order.
    pub fn rows(&self, site: Site, first: usize, numbers: &mut [f32]) -> Result<()> {
        // Of a corrected weight, the base alone would be another weight.
        if !self.has_rows(site) {
            let problem = format!("`{site}` is not kept as one matrix of floats");
            return Err(Error::damaged(self.path(), problem));
        }
        let name = names::weight(site);
        let tensor = self.tensor(&name)?;
        let first = first * self.config().weight_shape(site).cols;
        let pieces = numbers.chunks_mut(PIECE).zip((first..).step_by(PIECE));
        pieces
            .into_iter()
            .try_for_each(|(piece, first)| self.decode(&name, tensor, first, piece))
    }

    /// Decodes `numbers.len()` numbers from the `first` on, in the file's order. Both ends must be
    /// block boundaries.
    fn decode(&self, name: &str, tensor: &Tensor, first: usize, numbers: &mut [f32]) -> Result<()> {
        let (values, bytes) = self.block(tensor, name)?;
        let place = |number: usize| number / values * bytes;
        let bytes = self.bytes(tensor, name, place(first)..place(first + numbers.len()))?;
        match &tensor.kind {
            Kind::Float(format) => {
                format.decode_into(&bytes, numbers);
                if let Some(scale) = self.scale_of(name) {
                    numbers.iter_mut().for_each(|x| *x *= scale);
                }
            }
            Kind::Block(kind) => {
                dequantise(*kind, &bytes, numbers).map_err(|source| Error::Gguf {
                    path: self.path().into(),
                    source: Box::new(source),
                })?;
            }
            Kind::Scaled(scaled) => {
                let needed = scaled.needed(first, numbers.len());
                let scales = self.companions(&scaled.scales, needed.clone(), name)?;
                let zeros = scaled.zeros.as_ref();
                let zeros = zeros.map(|zeros| self.companions(zeros, needed, name));
                let zeros = zeros.transpose()?.unwrap_or_default();
                scaled.decode(first, (&bytes, &scales, &zeros), numbers);
                // FP8 has codes for NaN; a scale may be none, or too large.
                if numbers.iter().any(|x| !x.is_finite()) {
                    return Err(Error::not_finite(self.path(), name));
                }
            }
            Kind::Opaque(_) => {}
        }
        Ok(())
    }

    /// Some numbers of a tensor that is part of the weight `name`: floats, or integers of a byte.
    fn companions(&self, tensor: &Tensor, range: Range<usize>, name: &str) -> Result<Vec<f32>> {
        let width = match tensor.kind {
            Kind::Float(format) => format.bytes(),
            _ => 1,
        };
        let bytes = self.bytes(tensor, name, range.start * width..range.end * width)?;
        Ok(match tensor.kind {
            Kind::Float(format) => format.decode(&bytes),
            _ => bytes.iter().map(|&b| f32::from(b.cast_signed())).collect(),
        })
    }

    /// Values and bytes of one block of a tensor; 1 value for plain floats. Fails for dtypes
    /// without a decoder.
    fn block(&self, tensor: &Tensor, name: &str) -> Result<(usize, usize)> {
        match &tensor.kind {
            Kind::Float(format) => Ok((1, format.bytes())),
            Kind::Block(kind) => Ok((kind.values(), kind.bytes())),
            Kind::Scaled(_) => Ok((1, 1)),
            Kind::Opaque(found) => Err(Error::NumberType {
                path: self.path().into(),
                name: name.into(),
                found: found.clone(),
                wanted: FLOATS,
            }),
        }
    }

    /// The file that a tensor lies in.
    fn file(&self, tensor: &Tensor, name: &str) -> Result<&WeightFile> {
        let file = self.files.get(tensor.file);
        file.ok_or_else(|| self.cut_short(name))
    }

    /// The error of a tensor with fewer bytes than its shape needs.
    fn cut_short(&self, name: &str) -> Error {
        Error::damaged(self.path(), format!("tensor `{name}` is cut short"))
    }
}
