//! A network whose weights stay in their files: more of it than a block is never in memory.
//!
//! A block is decoded when it is its turn. Of an embedding that is kept in plain numbers or in blocks of GGUF
//! only the rows of a text's tokens are decoded; the head is multiplied a panel of rows at a time. Packed
//! ones are small, and in memory as they are.

use std::{borrow::Cow, ops::Range};

use burn::{
    nn::RmsNorm,
    tensor::{Device, Tensor},
};
use compress_checkpoint::{Checkpoint, names};
use compress_core::Site;
use rayon::prelude::*;

use crate::{
    Block, Error, Network, Result, Rotary, RotaryAngles, Weight, decode::token, decoder::joined,
    host::to_device, load::Loader, product::product_of_rows,
};

/// Slices of logits that a streamed network is best asked for at a time, since they share the decoding of its
/// head: 64 MiB of them.
pub const SLICES_AT_A_TIME: usize = 4;

/// Rows of a weight that are looked at together, when all are.
const LOOKED_AT: usize = 1 << 17;

/// A network over a checkpoint.
pub struct Streamed<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
    embedding: Kept,
    /// The embedding where absent.
    head: Option<Kept>,
    norm: RmsNorm,
    rotary: Rotary,
}

/// Embedding or head.
enum Kept {
    InFile(Site),
    InMemory(Box<Weight>),
}

impl<'a> Streamed<'a> {
    /// Looks at all numbers of embedding and head once: an error where one is not finite.
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
        let untied = !checkpoint.config().tied;
        Ok(Self {
            checkpoint,
            device: device.clone(),
            embedding: keep(Site::Embedding)?,
            head: untied.then(|| keep(Site::Head)).transpose()?,
            norm: load.last_norm()?,
            rotary: Rotary::new(checkpoint.config()),
        })
    }

    /// Channels of its residual stream.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.checkpoint.config().hidden
    }

    /// Rows of a weight, from the `first` on, as many as fill `numbers`.
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
        let block = Block::load(self.checkpoint, layer, &self.device)?;
        Ok(Cow::Owned(block))
    }

    fn normed(&self, residual: Tensor<3>) -> Tensor<3> {
        self.norm.forward(residual)
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

/// Refuses a weight with a number that is not finite, as it is refused where it is loaded whole.
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
