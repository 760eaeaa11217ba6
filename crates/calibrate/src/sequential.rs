//! The sequential pass: a text through one block after the other, measured at each layer input, whose weights are
//! compressed there and then.
//!
//! No measurement outlives its weights: of H, n × n, there is one at a time. Where later weights are to see what was
//! done to earlier ones, two passes run side by side, the original's and that of the model as far as it is written;
//! the second reads the weights as they are stored. The refit target decides what the second one's weights make good:
//!
//! - [`RefitTarget::Inputs`], t = W z: for their own inputs, weights are to give what the original weights would.
//!   Errors of earlier blocks stay.
//! - [`RefitTarget::Original`], t = W x, and for weights that write to the residual stream t = W x + (h − ĥ), the
//!   original's stream less the compressed model's: they make good for cuts before them as far as z allows.
//!
//! ```text
//! folder/3.original, 3.compressed        the residual streams before block 3, of all windows
//! folder/original.residual, .input      the same within the block, and the next layer input
//! ```
//!
//! Costs a forward pass of each model, and on disk the residual streams and layer inputs of all windows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use compress_checkpoint::{Checkpoint, settle};
use compress_core::{InputKind, LayerInput, Role};
use compress_models::{Block, Device, Network as _, RotaryAngles, Streamed, to_device, to_host};
use rayon::prelude::*;

use crate::{
    Error, Measured, Progress, Result,
    host::{finite, length, remove, side_by_side},
    measured::{Seen, one_reader, target_rows},
    refit::{Behind, RefitTarget},
    stages::{State, advance},
    states::{States, Writing},
};

/// A sequential pass: the original's alone, or with the compressed model's beside it.
pub struct Sequential<'a> {
    checkpoint: &'a Checkpoint,
    behind: Option<Behind<'a>>,
    /// Whether Σ a x xᵀ, weighted by attention mass, is summed as well.
    attention_weighted: bool,
    windows: usize,
    /// Tokens per window.
    time: usize,
    angles: RotaryAngles,
    device: Device,
    folder: PathBuf,
    progress: &'a dyn Progress,
}

/// File names of the original's pass and of the compressed model's.
const NAMES: [&str; 2] = ["original", "compressed"];

impl<'a> Sequential<'a> {
    /// Starts before block `first`: 0, where embeddings are written, or the block before which an earlier run has left
    /// its residual streams in `folder`. Fails on windows of different lengths or of less than two tokens.
    pub fn begin(
        checkpoint: &'a Checkpoint,
        windows: &[Vec<u32>],
        (behind, attention_weighted): (Option<Behind<'a>>, bool),
        (folder, first): (&Path, usize),
        device: &Device,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let time = length(windows)?;
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        // Streamed: of the embedding only the rows of the text are read.
        let network = Streamed::open(checkpoint, device)?;
        let passes = Self {
            checkpoint,
            behind,
            attention_weighted,
            windows: windows.len(),
            time,
            angles: network.angles(0..time),
            device: device.clone(),
            folder: folder.into(),
            progress,
        };
        if first == 0 {
            passes.embed(0, &network, windows)?;
            if let Some(behind) = behind {
                // The embedding may be stored in fewer bits: then later weights make good for that, too.
                let network = Streamed::open(behind.written, &passes.device)?;
                passes.embed(1, &network, windows)?;
            }
        }
        let blocks = checkpoint.config().layers - first;
        progress.start(
            "sequential",
            blocks * windows.len() * (InputKind::ALL.len() + 1),
        );
        Ok(passes)
    }

    /// Writes the residual streams of one pass before the first block.
    fn embed(&self, pass: usize, network: &Streamed<'_>, windows: &[Vec<u32>]) -> Result<()> {
        let hidden = self.checkpoint.config().hidden;
        let writing = Writing::new(&self.before(0, pass), self.time * hidden)?;
        let windows = windows.par_iter().enumerate();
        windows.try_for_each(|(i, window)| writing.write(i, &to_host(network.embed(window)?)?))?;
        writing.name() // a run that begins with the first block writes it anew
    }

    /// Takes the text through block `layer`. At each of its four layer inputs, `compress` gets the sums, and must
    /// have written the weights that read it when it returns; the compressed model's pass then reads them.
    ///
    /// The residual streams before the next block are in their file when this returns, and durable after
    /// [`settle`](Self::settle); those before this one stay until [`forget`](Self::forget), so that a run that is
    /// killed meanwhile starts this block again. Fails where
    /// `compress` does, and on an activation that is not finite.
    pub fn through<E: From<Error>>(
        &self,
        layer: usize,
        mut compress: impl FnMut(Measured) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        // Of both models only those weights are loaded that the next step needs.
        let mut blocks = vec![self.frame(self.checkpoint, layer)?];
        if let Some(Behind { written, .. }) = self.behind {
            blocks.push(self.frame(written, layer)?);
        }
        let mut from: Option<InputKind> = None;
        for kind in InputKind::ALL {
            // The original weights, from which refit targets follow.
            self.load(
                &mut blocks[0],
                self.checkpoint,
                LayerInput::new(layer, kind),
            )?;
            let measured = self.measure(&blocks, from, LayerInput::new(layer, kind))?;
            // The pass is behind these weights in every window: memory holds those of two layer inputs at most.
            for block in &mut blocks {
                let passed = from.map_or(&[][..], InputKind::readers);
                let passed = passed.iter();
                passed.for_each(|role| block.unload_linear(*role, &self.device));
            }
            compress(measured)?;
            if let (Some(behind), Some(block)) = (self.behind, blocks.get_mut(1)) {
                self.load(block, behind.written, LayerInput::new(layer, kind))?;
            }
            from = Some(kind);
        }
        self.past_the_last(&blocks, layer)?;
        Ok(())
    }

    /// A block with its norms only.
    fn frame(&self, checkpoint: &Checkpoint, layer: usize) -> Result<Block> {
        Ok(Block::frame(checkpoint, layer, &self.device)?)
    }

    /// Loads the weights that read a layer input.
    fn load(&self, block: &mut Block, checkpoint: &Checkpoint, input: LayerInput) -> Result<()> {
        for &role in input.kind.readers() {
            block.load_linear(checkpoint, (input.layer, role), &self.device)?;
        }
        Ok(())
    }

    /// Makes the residual streams before block `layer` durable, so that a run may begin there.
    pub fn settle(&self, layer: usize) -> Result<()> {
        let streams = (0..self.passes()).map(|pass| self.before(layer, pass));
        streams.into_iter().try_for_each(|path| Ok(settle(&path)?))
    }

    /// Removes the residual streams before block `layer`, if they are there; to be called when no run can begin there any
    /// more.
    pub fn forget(&self, layer: usize) -> Result<()> {
        (0..self.passes()).try_for_each(|pass| remove(&self.before(layer, pass)))
    }

    /// Passes side by side, one or two.
    fn passes(&self) -> usize {
        1 + usize::from(self.behind.is_some())
    }

    /// Whether cross sums are needed.
    fn refits_to_original(&self) -> bool {
        self.behind
            .is_some_and(|behind| behind.refit == RefitTarget::Original)
    }

    /// The file of the residual streams before a block.
    fn before(&self, layer: usize, pass: usize) -> PathBuf {
        self.folder.join(format!("{layer}.{}", NAMES[pass]))
    }

    /// A file within a block: residual streams, or layer inputs.
    fn within(&self, what: &str, pass: usize) -> PathBuf {
        self.folder.join(format!("{}.{what}", NAMES[pass]))
    }

    /// Takes all windows from one layer input past its weights to the next, and sums there.
    fn measure(
        &self,
        blocks: &[Block],
        from: Option<InputKind>,
        to: LayerInput,
    ) -> Result<Measured> {
        let shape = |role: Role| self.checkpoint.config().shape(role);
        let width = shape(to.kind.reader()).cols;
        let rows = if self.refits_to_original() {
            target_rows(to.kind, shape)
        } else {
            0
        };
        let attention_weighted = self.attention_weighted && to.kind == InputKind::Attention;
        let mut measured = Measured::new(to, width, rows, attention_weighted);
        let stage = Stage::open(self, to.layer, from)?;
        let size = side_by_side(self.time);
        for first in (0..self.windows).step_by(size) {
            let batch = first..(first + size).min(self.windows);
            let one = |index: usize| {
                let states = stage.advance(blocks, index)?;
                let seen = self.see(&blocks[0], to, &states, attention_weighted)?;
                self.progress.advance(1);
                let fine = finite(&seen.z) && finite(&seen.target);
                if fine && seen.attention.as_deref().is_none_or(finite) {
                    Ok(seen)
                } else {
                    Err(Error::Activation {
                        input: to,
                        window: index,
                    })
                }
            };
            let seen = batch.into_par_iter().with_max_len(1).map(one);
            measured.add(&seen.collect::<Result<Vec<_>>>()?);
        }
        Ok(measured)
    }

    /// The rows of one window that are to be summed, from the states of both passes.
    fn see(
        &self,
        original: &Block,
        to: LayerInput,
        states: &[State],
        attention_weighted: bool,
    ) -> Result<Seen> {
        let [first, .., last] = [&states[0], &states[states.len() - 1]];
        let x = &first.input;
        let target = if !self.refits_to_original() {
            Vec::new()
        } else if one_reader(to.kind) {
            // What the original's residual stream will be, less what the compressed model's has already. A bias is
            // the same on both sides, and cancels.
            let [_, time, width] = x.dims();
            let weight = &original.linear(to.kind.reader()).weight;
            let given = weight.forward(x.clone().reshape([time, width])).unsqueeze();
            to_host(given + first.residual.clone() - last.residual.clone())?
        } else {
            to_host(x.clone())?
        };
        // Attention mass is the original's: the compressed model's query and key of this block are not made yet.
        let attention = || {
            let attention = &original.attention;
            let (query, key) = (&attention.query, &attention.key);
            let (query, key) = (query.forward(x.clone()), key.forward(x.clone()));
            attention.attention_mass(query, key, &self.angles)
        };
        Ok(Seen {
            z: to_host(last.input.clone())?,
            target,
            attention: attention_weighted.then(attention).transpose()?,
        })
    }

    /// Takes all windows past `down`, and names the residual streams after the next block.
    fn past_the_last(&self, blocks: &[Block], layer: usize) -> Result<()> {
        let stage = Stage::open(self, layer, Some(InputKind::Down))?;
        let windows = (0..self.windows).into_par_iter().with_max_len(1);
        windows.try_for_each(|index| {
            self.progress.advance(1);
            stage.advance(blocks, index).map(|_| ())
        })?;
        for (pass, files) in stage.files.into_iter().enumerate() {
            // The file within the block now holds the residual stream behind it.
            files.residual.rename(&self.before(layer + 1, pass))?; // not durable yet
        }
        Ok(())
    }

    /// Channels of a layer input.
    fn width(&self, kind: InputKind) -> usize {
        self.checkpoint.config().shape(kind.reader()).cols
    }

    /// One window's activations, 1 × time × width.
    fn tensor(&self, numbers: Vec<f32>, width: usize) -> Tensor<3> {
        let shape = [1, self.time, width];
        to_device(numbers, shape, &self.device)
    }
}

/// The files of all passes between one layer input and the next.
struct Stage<'a> {
    passes: &'a Sequential<'a>,
    from: Option<InputKind>,
    files: Vec<Files>,
}

/// The files of one pass. The slots of `input` are as large as the widest layer input, so that each window's is
/// overwritten in place.
struct Files {
    /// The residual stream before the step.
    residual: States,
    /// Where the residual stream goes, when it changes first: the one before the block must stay for a run that is
    /// killed.
    next: Option<States>,
    /// The layer input before the step, overwritten by the next one.
    input: States,
}

impl<'a> Stage<'a> {
    /// Opens or creates the files that a step reads and writes.
    fn open(passes: &'a Sequential<'_>, layer: usize, from: Option<InputKind>) -> Result<Self> {
        let hidden = passes.time * passes.checkpoint.config().hidden;
        let widest = InputKind::ALL.map(|kind| passes.width(kind));
        let widest = passes.time * widest.into_iter().max().unwrap_or(0);
        // Only past these weights does the residual stream change.
        let middle = matches!(from, Some(InputKind::FeedForward | InputKind::Down));
        let files = |pass| {
            let before = passes.before(layer, pass);
            let within = passes.within("residual", pass);
            let input = passes.within("input", pass);
            let create = from == Some(InputKind::Output);
            Ok(Files {
                residual: States::open(if middle { &within } else { &before }, hidden)?,
                next: create
                    .then(|| States::create(&within, hidden))
                    .transpose()?,
                input: match from {
                    None => States::create(&input, widest)?,
                    Some(_) => States::open(&input, widest)?,
                },
            })
        };
        let files = (0..passes.passes()).map(files).collect::<Result<_>>()?;
        Ok(Self {
            passes,
            from,
            files,
        })
    }

    /// Takes one window of all passes one step further, and writes its new states.
    fn advance(&self, blocks: &[Block], index: usize) -> Result<Vec<State>> {
        let hidden = self.passes.checkpoint.config().hidden;
        let time = self.passes.time;
        let one = |(files, block): (&Files, &Block)| {
            let residual = files.residual.read(index)?;
            let residual = self.passes.tensor(residual, hidden);
            let input = match self.from {
                None => residual.clone(),
                Some(kind) => {
                    let width = self.passes.width(kind);
                    self.passes
                        .tensor(files.input.read_first(index, time * width)?, width)
                }
            };
            let state = State { residual, input };
            let state = advance(block, self.from, state, &self.passes.angles);
            match (self.from, &files.next) {
                (Some(InputKind::Output), Some(next)) => {
                    next.write(index, &to_host(state.residual.clone())?)?;
                }
                (Some(InputKind::Down), _) => {
                    files
                        .residual
                        .write(index, &to_host(state.residual.clone())?)?;
                }
                _ => {}
            }
            if self.from != Some(InputKind::Down) {
                files.input.write(index, &to_host(state.input.clone())?)?;
            }
            Ok(state)
        };
        self.files.iter().zip(blocks).map(one).collect()
    }
}
