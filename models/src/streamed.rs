//! A network whose weights stay in their files: no more than one block of it is in memory at a time.
//!
//! A block is loaded when it is asked for. Of an embedding in floats or in GGUF blocks, only the rows of a text's
//! tokens are decoded; the head is multiplied a panel of rows at a time. Packed embeddings are small, and stay in
//! memory. A pass over many windows reads the whole model once, where all windows go through a block together.

use std::{borrow::Cow, ops::Range};

use burn::{
    nn::RmsNorm,
    tensor::{Device, Tensor},
};
use compress_checkpoint::{Checkpoint, Head, names};
use compress_core::Site;
use rayon::prelude::*;

use crate::{
    Block, Error, Network, Result, Rotary, RotaryAngles, Weight, decode::token, decoder::joined,
    host::to_device, load::Loader, product::product_of_rows, rms_norm,
};

/// Ranges of logits that a streamed network is best asked for at a time, since they share one decoding of the head:
/// 64 MiB of logits.
pub const SLICES_AT_A_TIME: usize = 4;

/// Numbers of embedding or head that a thread checks at a time: 512 KiB of `f32`.
const LOOKED_AT: usize = 1 << 17;

/// A network over a checkpoint, with the ends open and the blocks on disk.
pub struct Streamed<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
    embedding: Kept,
    /// None where the head is tied to the embedding.
    head: Option<Kept>,
    norm: RmsNorm,
    rotary: Rotary,
}

/// The place of the embedding or the head.
enum Kept {
    /// Decoded from the checkpoint's files, row by row, when needed.
    InFile(Site),
    /// Loaded, since its rows cannot be read one by one.
    InMemory(Box<Weight>),
}

impl<'a> Streamed<'a> {
    /// Opens a checkpoint as a network, and loads its norm and what cannot be read by rows.
    ///
    /// Reads embedding and head once, to refuse a number that is not finite here and not in the middle of a run.
    pub fn open(checkpoint: &'a Checkpoint, device: &Device) -> Result<Self> {
        let load = Loader::new(checkpoint, device);
        let keep = |site: Site| {
            if checkpoint.has_rows(site) {
                check(checkpoint, site)?;
                return Ok(Kept::InFile(site));
            }
            load.weight(site)
                .map(|weight| Kept::InMemory(weight.into()))
        };
        let untied = checkpoint.config().head == Head::Own;
        Ok(Self {
            checkpoint,
            device: device.clone(),
            embedding: keep(Site::Embedding)?,
            head: untied.then(|| keep(Site::Head)).transpose()?,
            norm: load.last_norm()?,
            rotary: Rotary::new(checkpoint.config())?,
        })
    }

    /// Channels of the residual stream.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.checkpoint.config().hidden
    }

    /// Decodes rows of a weight, from `first` on, as many as fill `numbers`.
    fn rows(&self, site: Site, first: usize, numbers: &mut [f32]) -> Result<()> {
        Ok(self.checkpoint.rows(site, first, numbers)?)
    }
}

impl Network for Streamed<'_> {
    fn layers(&self) -> usize {
        self.checkpoint.config().layers
    }

    fn vocabulary(&self) -> usize {
        self.checkpoint.config().vocabulary
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn embed(&self, text: &[u32]) -> Result<Tensor<3>> {
        let (tokens, time) = joined(&[text], self.vocabulary())?;
        let hidden = self.checkpoint.config().hidden;
        let rows = match &self.embedding {
            Kept::InFile(site) => {
                let mut numbers = vec![0.0; time * hidden];
                for (&token, row) in tokens.iter().zip(numbers.chunks_exact_mut(hidden)) {
                    self.rows(*site, token as usize, row)?;
                }
                to_device(numbers, [time, hidden], &self.device)
            }
            Kept::InMemory(weight) => weight.rows(&tokens, &self.device)?,
        };
        Ok(rows.reshape([1, time, hidden]))
    }

    fn angles(&self, positions: Range<usize>) -> RotaryAngles {
        self.rotary.angles(positions, &self.device)
    }

    fn block(&self, layer: usize) -> Result<Cow<'_, Block>> {
        let block = Loader::fixed(self.checkpoint, &self.device).block(layer)?;
        Ok(Cow::Owned(block))
    }

    fn normed(&self, residual: Tensor<3>) -> Tensor<3> {
        rms_norm(&self.norm, residual)
    }

    fn logits(&self, hidden: &Tensor<2>, slices: &[Range<usize>]) -> Result<Vec<Tensor<2>>> {
        let of = |slice: &Range<usize>| hidden.clone().narrow(0, slice.start, slice.len());
        let x: Vec<Tensor<2>> = slices.iter().map(of).collect();
        match self.head.as_ref().unwrap_or(&self.embedding) {
            Kept::InFile(site) => product_of_rows(&x, self.vocabulary(), |first, rows| {
                self.rows(*site, first, rows)
            }),
            Kept::InMemory(weight) => {
                let one = |x: Tensor<2>| {
                    // One token on the CPU takes the kernel of decoding, as in `Decoder::logits`.
                    token::logits(weight, None, &x).unwrap_or_else(|| weight.forward(x))
                };
                Ok(x.into_iter().map(one).collect())
            }
        }
    }

    fn slices_at_a_time(&self) -> usize {
        SLICES_AT_A_TIME
    }
}

/// Refuses a weight with a number that is not finite, as the loader does for one that is loaded whole.
fn check(checkpoint: &Checkpoint, site: Site) -> Result<()> {
    let shape = checkpoint.config().weight_shape(site);
    let some = (LOOKED_AT / shape.cols.max(1)).max(1);
    let panels: Vec<usize> = (0..shape.rows).step_by(some).collect();
    panels.into_par_iter().try_for_each(|first| {
        let mut numbers = vec![0.0; some.min(shape.rows - first) * shape.cols];
        checkpoint.rows(site, first, &mut numbers)?;
        match numbers.iter().find(|x| !x.is_finite()) {
            Some(&value) => Err(Error::NonFinite {
                name: names::weight(site),
                value,
            }),
            None => Ok(()),
        }
    })
}
