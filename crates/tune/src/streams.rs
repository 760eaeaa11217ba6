//! The residual streams of all windows on their two ways through the blocks, on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use compress_calibrate::{States, Writing};
use compress_models::{Block, Decoder, Device, Network, RotaryAngles, to_device, to_host};
use rayon::prelude::*;

use crate::{Error, Result};

/// The original's residual streams, and the model's.
pub struct Streams {
    original: PathBuf,
    model: PathBuf,
    windows: usize,
    /// Time and width.
    shape: [usize; 2],
    device: Device,
}

impl Streams {
    /// Each begins with its own model's embedding: that of a compressed one may be rounded, and its blocks
    /// then learn to make good for that. Their files lie in `folder`.
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

    /// How many windows there are.
    pub const fn len(&self) -> usize {
        self.windows
    }

    /// Takes the original's streams through its block: now they are what the model's block aims at.
    pub fn aim(&self, block: &Block, angles: &RotaryAngles) -> Result<()> {
        self.pass(&self.original, block, angles)
    }

    /// Takes the model's streams through its block.
    pub fn follow(&self, block: &Block, angles: &RotaryAngles) -> Result<()> {
        self.pass(&self.model, block, angles)
    }

    fn pass(&self, path: &Path, block: &Block, angles: &RotaryAngles) -> Result<()> {
        let before = self.open(path)?;
        self.write(path, |window| {
            let x = self.tensor(before.read(window)?);
            Ok(block.forward(x, angles, None))
        })
    }

    /// Writes all windows anew, in the place of what is there.
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

    /// Opens both to be read as they are now.
    pub fn pairs(&self) -> Result<Pairs<'_>> {
        Ok(Pairs {
            streams: self,
            model: self.open(&self.model)?,
            original: self.open(&self.original)?,
        })
    }

    fn open(&self, path: &Path) -> Result<States> {
        Ok(States::open(path, self.shape.iter().product())?)
    }

    fn tensor(&self, numbers: Vec<f32>) -> Tensor<3> {
        let [time, width] = self.shape;
        to_device(numbers, [1, time, width], &self.device)
    }

    /// Removes the files.
    pub fn remove(self) -> Result<()> {
        for path in [&self.original, &self.model] {
            fs::remove_file(path).map_err(Error::io(path))?;
        }
        Ok(())
    }
}

/// The training pairs of a block: its inputs, and the outputs it should give.
pub struct Pairs<'a> {
    streams: &'a Streams,
    model: States,
    original: States,
}

impl Pairs<'_> {
    /// How many windows there are.
    pub const fn len(&self) -> usize {
        self.streams.len()
    }

    /// The two of a window, each 1 × time × width.
    pub fn read(&self, window: usize) -> Result<[Tensor<3>; 2]> {
        let [input, aim] = [&self.model, &self.original].map(|states| states.read(window));
        Ok([self.streams.tensor(input?), self.streams.tensor(aim?)])
    }
}
