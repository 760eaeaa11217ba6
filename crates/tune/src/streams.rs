//! The residual streams of the original and of the model, of all windows, on disk between two blocks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use compress_calibrate::{States, Writing};
use compress_models::{Block, Decoder, Device, Network, RotaryAngles, to_device, to_host};
use rayon::prelude::*;

use crate::{Error, Result};

/// The residual streams of the original and of the model, before or behind the same block.
pub struct Streams {
    original: PathBuf,
    model: PathBuf,
    windows: usize,
    /// Tokens per window, and channels.
    shape: [usize; 2],
    device: Device,
}

impl Streams {
    /// Writes both streams before the first block to files in `folder`.
    ///
    /// Each begins with its own model's embedding: a compressed model's may be rounded, and its blocks then learn to
    /// make good for that. Fails on tokens outside the vocabulary, and where a file cannot be written.
    pub fn new(
        original: &dyn Network,
        model: &Decoder,
        windows: &[Vec<u32>],
        (folder, name): (&Path, &str),
    ) -> Result<Self> {
        let place = |way: &str| folder.join(format!("{name}.{way}"));
        let streams = Self {
            original: place("original"),
            model: place("model"),
            windows: windows.len(),
            shape: [
                windows.first().map_or(0, Vec::len),
                model.norm.gamma.dims()[0],
            ],
            device: model.device(),
        };
        let networks: [(&Path, &dyn Network); 2] =
            [(&streams.original, original), (&streams.model, model)];
        for (path, network) in networks {
            streams.write(path, |window| Ok(network.embed(&windows[window])?))?;
        }
        Ok(streams)
    }

    /// Windows in each.
    pub const fn len(&self) -> usize {
        self.windows
    }

    /// Takes the original's streams through its block: they are now the outputs that the model's block is trained on.
    pub fn aim(&self, block: &Block, angles: &RotaryAngles) -> Result<()> {
        self.pass(&self.original, block, angles)
    }

    /// Takes the model's streams through its trained block.
    pub fn follow(&self, block: &Block, angles: &RotaryAngles) -> Result<()> {
        self.pass(&self.model, block, angles)
    }

    /// Takes streams through a block, in place of those before it.
    fn pass(&self, path: &Path, block: &Block, angles: &RotaryAngles) -> Result<()> {
        let before = self.open(path)?;
        self.write(path, |window| {
            let x = self.tensor(before.read(window)?);
            Ok(block.forward(x, angles, None))
        })
    }

    /// Writes the streams of all windows anew; the file of the old ones stays until all are there.
    fn write(&self, path: &Path, make: impl Fn(usize) -> Result<Tensor<3>> + Sync) -> Result<()> {
        let writing = Writing::new(path, self.shape.iter().product())?;
        let one = |window: usize| {
            let numbers = to_host(make(window)?)?;
            Ok::<_, Error>(writing.write(window, &numbers)?)
        };
        let windows = (0..self.windows).into_par_iter().with_max_len(1);
        windows.try_for_each(one)?;
        Ok(writing.finish()?)
    }

    /// Opens both streams as they are now: pairs, once the original's is a block ahead.
    pub fn pairs(&self) -> Result<Pairs<'_>> {
        Ok(Pairs {
            streams: self,
            model: self.open(&self.model)?,
            original: self.open(&self.original)?,
        })
    }

    /// Opens the file of one stream.
    fn open(&self, path: &Path) -> Result<States> {
        Ok(States::open(path, self.shape.iter().product())?)
    }

    /// A window's stream on the device, 1 × time × width.
    fn tensor(&self, numbers: Vec<f32>) -> Tensor<3> {
        let [time, width] = self.shape;
        to_device(numbers, [1, time, width], &self.device)
    }

    /// Removes both files.
    pub fn remove(self) -> Result<()> {
        for path in [&self.original, &self.model] {
            fs::remove_file(path).map_err(Error::io(path))?;
        }
        Ok(())
    }
}

/// The training pairs of a block: input in the model, and the output that the original's block gives.
pub struct Pairs<'a> {
    streams: &'a Streams,
    model: States,
    original: States,
}

impl Pairs<'_> {
    /// Pairs, one per window.
    pub const fn len(&self) -> usize {
        self.streams.len()
    }

    /// Input and output of one window, each 1 × time × width.
    pub fn read(&self, window: usize) -> Result<[Tensor<3>; 2]> {
        let [input, aim] = [&self.model, &self.original].map(|states| states.read(window));
        Ok([self.streams.tensor(input?), self.streams.tensor(aim?)])
    }
}
