//! Compressing block after block, each measured behind the ones that are compressed already.
//!
//! Two walks go through the network side by side: the original's, and that of the model as far as it
//! is compressed. At each inlet, with x of the first walk and z of the second,
//!
//! ```text
//! H = Σ z zᵀ    N = Σ x zᵀ    R = Σ (residual of the first − residual of the second) zᵀ
//! W* = argmin_V Σ ‖t − V z‖² + ε‖V − W‖² = (T + ε W)(H + ε I)⁻¹,   T = Σ t zᵀ
//! ```
//!
//! and the method compresses W* in place of W, under H. Which target t it is decides what the cut
//! makes good:
//!
//! - t = W z leaves W* = W: the cut weight is to do with its inputs what the whole one would do with
//!   them. What went wrong before stays wrong.
//! - t = W x, and for weights that write to the residual stream t = W x + what that stream lacks: the
//!   cut weight is to give what the original has at this place, so that it makes good for the cuts
//!   before it as far as its inputs allow.
//!
//! What is between the stages lies on disk, two numbers per channel and walk.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use compress_checkpoint::Checkpoint;
use compress_core::{
    Factor, Inlet, Matrix, Role, Site, Stream, Symmetric, Tokens,
    linalg::{Cholesky, Double},
};
use compress_models::{Block, Decoder, Device, Turns};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Error, Progress, Result,
    accumulate::{add_crosses, add_grams, weight},
    calibrate::{finite, numbers, remove, side_by_side},
    measure::not_on_host,
    stages::{State, advance},
    states::{States, Writing},
};

/// What a cut weight is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// t = W z: what the whole weight would give for the same inputs.
    Inputs,
    /// t = what the original gives at this place, the residual stream included.
    Original,
}

/// ε, as a fraction of the mean of the diagonal of H.
const DAMPING: f64 = 0.1;

/// What was measured at one inlet of one block.
pub struct Measured {
    /// Where.
    pub stream: Stream,
    aim: Aim,
    sums: Sums,
    attended: Option<Sums>, // of what key and value read, each token weighted by how much it is looked at
    residuals: Vec<f64>,    // R: hidden × n; empty where it is not aimed at, or not written to
}

/// Sums over all tokens.
struct Sums {
    activations: Symmetric, // H
    inputs: Vec<f64>,       // N: n × n; empty where the aim is what the inputs give
}

impl Sums {
    fn new(width: usize, aim: Aim) -> Self {
        let crossed = if aim == Aim::Original { width } else { 0 };
        Self {
            activations: Symmetric::zeros(width),
            inputs: vec![0.0; crossed * crossed],
        }
    }

    /// Adds windows of both walks.
    fn add(&mut self, x: &[&[f32]], z: Vec<&[f32]>) {
        let width = self.activations.size();
        if !self.inputs.is_empty() {
            add_crosses(&mut self.inputs, (x, width), (&z, width));
        }
        add_grams(std::slice::from_mut(&mut self.activations), &[z]);
    }
}

/// The two walks.
pub struct Sequential<'a> {
    checkpoint: &'a Checkpoint,
    windows: usize,
    aim: Aim,
    tokens: Tokens,
    time: usize,
    turns: Turns,
    device: Device,
    walks: [Files; 2], // the original's, the compressed model's
    progress: &'a dyn Progress,
}

/// The files of one walk: the residual stream and the stream at the current inlet.
struct Files {
    residual: PathBuf,
    stream: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str) -> Self {
        Self {
            residual: folder.join(format!("{name}.residual")),
            stream: folder.join(format!("{name}.stream")),
        }
    }
}

impl<'a> Sequential<'a> {
    /// Starts both walks before the first block; their files go to `folder`, and are removed by
    /// [`finish`](Self::finish). Keys and values aim at the original's with tokens counted as `tokens`
    /// says, by what the original looks at.
    pub fn begin(
        checkpoint: &'a Checkpoint,
        windows: &[Vec<u32>],
        (aim, tokens): (Aim, Tokens),
        folder: &Path,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let device = Device::flex();
        let ends = Decoder::load_ends(checkpoint, &device)?;
        let time = crate::calibrate::length(windows)?;
        let walks = ["original", "compressed"].map(|name| Files::new(folder, name));
        for walk in &walks {
            let (residual, stream) = (Writing::new(&walk.residual)?, Writing::new(&walk.stream)?);
            windows.par_iter().enumerate().try_for_each(|(i, window)| {
                let embedded = numbers(ends.embed(&[window])?)?;
                residual.write(i, &embedded)?;
                stream.write(i, &embedded)
            })?;
            residual.finish()?;
            stream.finish()?;
        }
        let steps = checkpoint.config().layers * windows.len() * (Inlet::ALL.len() + 1);
        progress.start("sequential", steps);
        Ok(Self {
            checkpoint,
            windows: windows.len(),
            aim,
            tokens,
            time,
            turns: ends.rotary.turns(0..time, &device),
            device,
            walks,
            progress,
        })
    }

    /// Takes both walks through block `layer`. At each inlet `compress` is given what was measured, and
    /// answers with the factors of the weights that read it.
    pub fn through<E: From<Error>>(
        &mut self,
        layer: usize,
        mut compress: impl FnMut(&Measured) -> std::result::Result<Vec<(Site, Factor)>, E>,
    ) -> std::result::Result<(), E> {
        let original = Block::load(self.checkpoint, layer, &self.device).map_err(Error::from)?;
        let mut compressed = original.clone();
        let mut from = None;
        for inlet in Inlet::ALL {
            let measured =
                self.advance([&original, &compressed], from, Stream::new(layer, inlet))?;
            for (site, factor) in compress(&measured)? {
                let weight = compressed.linear_mut(site.role);
                weight.replace(factor, &self.device);
            }
            from = Some(inlet);
        }
        let end = Stream::new(layer, Inlet::Down);
        self.past_the_last([&original, &compressed], end)?;
        Ok(())
    }

    /// Removes the files of both walks.
    pub fn finish(self) -> Result<()> {
        for walk in &self.walks {
            remove(&walk.residual)?;
            remove(&walk.stream)?;
        }
        Ok(())
    }

    fn past_the_last(&self, blocks: [&Block; 2], from: Stream) -> Result<()> {
        let old = self.width(from.inlet);
        self.step(blocks, Some(from.inlet), old, |_, _| Ok(()))
    }

    fn advance(&self, blocks: [&Block; 2], from: Option<Inlet>, to: Stream) -> Result<Measured> {
        let hidden = self.checkpoint.config().hidden;
        let (old, new) = (
            from.map_or(hidden, |inlet| self.width(inlet)),
            self.width(to.inlet),
        );
        let original = self.aim == Aim::Original;
        let writes = original && matches!(to.inlet, Inlet::Output | Inlet::Down);
        let mut sums = Sums::new(new, self.aim);
        let weighted = to.inlet == Inlet::Attention && self.tokens == Tokens::Attended;
        let mut attended = weighted.then(|| Sums::new(new, self.aim));
        let mut residuals = vec![0.0; if writes { hidden * new } else { 0 }];
        self.step(blocks, from, old, |first, batch| {
            let part = |of: fn(&[Numbers; 2]) -> &Vec<f32>| {
                batch
                    .iter()
                    .map(|pair| of(pair).as_slice())
                    .collect::<Vec<_>>()
            };
            let (x, z) = (part(|pair| &pair[0].stream), part(|pair| &pair[1].stream));
            if let Some(window) = (0..x.len()).find(|&i| !finite(x[i]) || !finite(z[i])) {
                let window = first + window;
                return Err(Error::Activation { stream: to, window });
            }
            if writes {
                let lack = batch
                    .iter()
                    .map(|[a, b]| difference(&a.residual, &b.residual));
                let lack: Vec<Vec<f32>> = lack.collect();
                add_crosses(&mut residuals, (&slices(&lack), hidden), (&z, new));
            }
            if let Some(attended) = &mut attended {
                let received = self.received(blocks[0], &x)?;
                if let Some(window) = received.iter().position(|weights| !finite(weights)) {
                    let window = first + window;
                    return Err(Error::Activation { stream: to, window });
                }
                let [x, z] = [&x, &z].map(|windows| weighted_rows(windows, &received));
                attended.add(&slices(&x), slices(&z));
            }
            sums.add(&x, z);
            Ok(())
        })?;
        Ok(Measured {
            stream: to,
            aim: self.aim,
            sums,
            attended,
            residuals,
        })
    }

    /// How much a block looks at each token of some windows, from what its attention reads.
    fn received(&self, block: &Block, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        let width = self.width(Inlet::Attention);
        let of = |x: &&[f32]| {
            let x = self.tensor(x.to_vec(), width);
            let (query, key) = (&block.attention.query, &block.attention.key);
            let (query, key) = (query.forward(x.clone()), key.forward(x));
            let received = block.attention.received(query, key, &self.turns);
            received.ok_or_else(not_on_host)
        };
        windows.par_iter().with_max_len(1).map(of).collect()
    }

    /// Takes all windows of both walks one stage further, a batch at a time.
    fn step(
        &self,
        blocks: [&Block; 2],
        from: Option<Inlet>,
        old: usize,
        mut look: impl FnMut(usize, &[[Numbers; 2]]) -> Result<()>,
    ) -> Result<()> {
        let hidden = self.checkpoint.config().hidden;
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for Files { residual, stream } in &self.walks {
            let states = States::open(residual, self.time * hidden)?;
            read.push((states, States::open(stream, self.time * old)?));
            written.push((Writing::new(residual)?, Writing::new(stream)?));
        }
        let size = side_by_side(self.time);
        for first in (0..self.windows).step_by(size) {
            let batch = first..(first + size).min(self.windows);
            let one = |index: usize| {
                let pair = [0, 1].map(|walk| {
                    let (residual, stream) = &read[walk];
                    let state = State {
                        residual: self.tensor(residual.read(index)?, hidden),
                        stream: self.tensor(stream.read(index)?, old),
                    };
                    let state = advance(blocks[walk], from, state, &self.turns);
                    let now = Numbers {
                        residual: numbers(state.residual)?,
                        stream: numbers(state.stream)?,
                    };
                    written[walk].0.write(index, &now.residual)?;
                    written[walk].1.write(index, &now.stream)?;
                    Ok::<_, Error>(now)
                });
                self.progress.advance(1);
                let [original, compressed] = pair;
                Ok([original?, compressed?])
            };
            let pairs = batch.into_par_iter().with_max_len(1).map(one);
            look(first, &pairs.collect::<Result<Vec<_>>>()?)?;
        }
        for (residual, stream) in written {
            residual.finish()?;
            stream.finish()?;
        }
        Ok(())
    }

    fn width(&self, inlet: Inlet) -> usize {
        self.checkpoint.config().shape(inlet.reader()).cols
    }

    fn tensor(&self, numbers: Vec<f32>, width: usize) -> Tensor<3> {
        Tensor::from_data(
            TensorData::new(numbers, [1, self.time, width]),
            &self.device,
        )
    }
}

/// A state on the host.
struct Numbers {
    residual: Vec<f32>,
    stream: Vec<f32>,
}

impl Measured {
    /// H of the compressed model.
    #[must_use]
    pub const fn activations(&self) -> &Symmetric {
        &self.sums.activations
    }

    /// The same with each token weighted by how much it is looked at; none where that was not asked
    /// for, or at other inlets than that of attention.
    #[must_use]
    pub fn attended(&self) -> Option<&Symmetric> {
        self.attended.as_ref().map(|sums| &sums.activations)
    }

    /// W*: what is to be compressed in place of the weight W of a role.
    pub fn retarget(&self, role: Role, weight: &Matrix) -> compress_core::Result<Matrix> {
        if self.aim == Aim::Inputs {
            return Ok(weight.clone());
        }
        let weighted = Tokens::Attended.are_weighted(role);
        let attended = self.attended.as_ref().filter(|_| weighted);
        let Sums {
            activations: h,
            inputs,
        } = attended.unwrap_or(&self.sums);
        let n = h.size();
        let w = Double::from(weight);
        let wanted = w.times(&Double::new(n, n, inputs)?)?;
        let wanted = if self.residuals.is_empty() {
            wanted
        } else {
            wanted.plus(1.0, &Double::new(weight.rows(), n, &self.residuals)?)?
        };
        let epsilon = DAMPING * h.trace() / n.max(1) as f64 + f64::MIN_POSITIVE;
        let left = Cholesky::new(h.clone().plus_diagonal(epsilon))?;
        let mut wanted = wanted.plus(epsilon, &w)?.row_major();
        left.solve(&mut wanted);
        let wanted = wanted.iter().map(|&x| x as f32).collect();
        Matrix::new(weight.rows(), n, wanted)
    }
}

/// Windows with each row multiplied by the root of its weight.
fn weighted_rows(windows: &[&[f32]], weights: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let one = |(window, weights): (&&[f32], &Vec<f32>)| {
        let mut rows = window.to_vec();
        weight(&mut rows, weights);
        rows
    };
    windows.iter().zip(weights).map(one).collect()
}

fn slices(windows: &[Vec<f32>]) -> Vec<&[f32]> {
    windows.iter().map(Vec::as_slice).collect()
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}
