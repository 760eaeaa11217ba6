//! From tensors in their files to numbers, as many at a time as the reader wants in memory.

use compress_core::{Form, Site};
use compress_gguf::dequantise;
use rayon::prelude::*;

use crate::{
    Checkpoint, Error, Kind, Result, Tensor, names,
    read::{tensor::FLOATS, weight_file::WeightFile},
};

/// Numbers that are decoded at a time, a whole number of blocks in every format: their bytes and they
/// themselves fit the second cache of a core.
const PIECE: usize = 1 << 17;

impl Checkpoint {
    /// The bytes of a tensor as they are on disk.
    pub fn raw(&self, name: &str) -> Result<Vec<u8>> {
        let tensor = self.tensor(name)?;
        self.file(tensor, name)?.read(tensor.range.clone())
    }

    /// Hands out the bytes of a tensor, at most `limit` of them at a time.
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

    /// The numbers of a tensor. Beside them only pieces of it are in memory.
    ///
    /// Within a pool of threads that share other work it uses its own thread only, else all cores.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let mut numbers = vec![0.0; tensor.size()];
        let decode =
            |(index, piece): (usize, &mut [f32])| self.decode(name, tensor, index * PIECE, piece);
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

    /// Hands out the numbers of a tensor, at most about `limit` at a time where its rows lie in their order.
    pub(crate) fn for_each_chunk(
        &self,
        name: &str,
        limit: usize,
        mut take: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let tensor = self.tensor(name)?;
        let (values, _) = self.block(tensor, name)?;
        let reordered = self.gguf.as_ref().map(|gguf| gguf.is_reordered(name));
        // What is asked for in runs that are no whole blocks is cut in memory.
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

    /// Whether a weight is one matrix of floating-point numbers, so that [`rows`](Self::rows) reads some of it.
    #[must_use]
    pub fn has_rows(&self, site: Site) -> bool {
        self.forms().get(&site) == Some(&Form::WHOLE)
    }

    /// Some rows of a weight, from the `first` on, as many as fill `numbers`: nothing else of it
    /// is read. An error where it is kept in another form than whole. Of a GGUF file, rows of query and key are
    /// in the file's own order.
    pub fn rows(&self, site: Site, first: usize, numbers: &mut [f32]) -> Result<()> {
        let name = names::weight(site);
        let tensor = self.tensor(&name)?;
        let first = first * self.config().weight_shape(site).cols;
        let pieces = numbers.chunks_mut(PIECE).zip((first..).step_by(PIECE));
        pieces
            .into_iter()
            .try_for_each(|(piece, first)| self.decode(&name, tensor, first, piece))
    }

    /// Decodes numbers of a tensor, in the file's own order; both ends are ends of blocks.
    fn decode(&self, name: &str, tensor: &Tensor, first: usize, numbers: &mut [f32]) -> Result<()> {
        let (values, bytes) = self.block(tensor, name)?;
        let place = |number: usize| tensor.range.start + number / values * bytes;
        let range = place(first)..place(first + numbers.len());
        if range.end > tensor.range.end {
            return Err(self.cut_short(name));
        }
        let bytes = self.file(tensor, name)?.read(range)?;
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
            Kind::Opaque(_) => {}
        }
        Ok(())
    }

    /// Numbers and bytes of a block of a tensor; an error where it is nothing to compute with.
    fn block(&self, tensor: &Tensor, name: &str) -> Result<(usize, usize)> {
        match &tensor.kind {
            Kind::Float(format) => Ok((1, format.bytes())),
            Kind::Block(kind) => Ok((kind.values(), kind.bytes())),
            Kind::Opaque(found) => Err(Error::NumberType {
                path: self.path().into(),
                name: name.into(),
                found: found.clone(),
                wanted: FLOATS,
            }),
        }
    }

    fn file(&self, tensor: &Tensor, name: &str) -> Result<&WeightFile> {
        let file = self.files.get(tensor.file);
        file.ok_or_else(|| self.cut_short(name))
    }

    fn cut_short(&self, name: &str) -> Error {
        Error::damaged(self.path(), format!("tensor `{name}` is cut short"))
    }
}
