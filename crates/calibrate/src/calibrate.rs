//! One-shot calibration: the forward and the backward pass of the original, block by block over all windows.
//!
//! ```text
//! states(l + 1) = block_l(states(l))                 forwards: H of each layer input, Σ a x xᵀ
//! gradient(l) = block_l'(states(l))ᵀ gradient(l + 1)  backwards: G and the Fisher information of each weight
//! ```
//!
//! Memory holds one block, its sums, and the activations of the windows that are side by side; residual streams and
//! their gradients lie on disk. A block that is finished is on disk too, so that a killed run goes on behind it.

use std::path::Path;

use burn::tensor::Tensor;
use compress_checkpoint::Checkpoint;
use compress_core::{LayerInput, Matrix, Needs, Role, Site, Symmetric};
use compress_models::{
    Block, Decoder, Device, Network as _, RotaryAngles, Streamed, to_device, to_host,
};
use rayon::prelude::*;

use crate::{
    BlockTrace, Error, EvidenceStore, PassFootprint, Result,
    accumulate::{add_absolute, add_grams, squared_gradient},
    backward::{backward, of_loss},
    host::{finite, length, remove, side_by_side},
    lens,
    measure::Measure,
    progress::Progress,
    states::{States, Writing},
    trace,
};

/// A model, a calibration text, and the store that takes the evidence.
struct Calibration<'a> {
    checkpoint: &'a Checkpoint,
    windows: &'a [Vec<u32>],
    store: &'a EvidenceStore,
    progress: &'a dyn Progress,
    /// The weights of each round of the backward pass through a block.
    rounds: &'static [&'static [Role]],
    network: Streamed<'a>,
    angles: RotaryAngles,
    /// Tokens per window.
    time: usize,
    device: Device,
}

/// Gathers the evidence that `needs` asks for and the store does not have yet.
///
/// Waits where another run measures the same. Fails on windows of different lengths or of less than 2 tokens, on an
/// activation or a gradient that is not finite, and where a file cannot be read or written. Costs one pass forward,
/// and where gradients are needed one backward, which runs each block forward once more; three of those where one would
/// take more than `room`, in bytes. The bytes of the evidence do not depend on it. The passes run on `device`, sums on
/// the CPU.
pub fn calibrate(
    checkpoint: &Checkpoint,
    windows: &[Vec<u32>],
    needs: Needs,
    (store, room): (&EvidenceStore, usize),
    device: &Device,
    progress: &dyn Progress,
) -> Result<()> {
    let layers = checkpoint.config().layers;
    if store.missing(needs, layers) == Needs::NOTHING {
        return Ok(());
    }
    let _alone = store.lock()?;
    // Another run may have done it while this one waited.
    let needs = store.missing(needs, layers);
    if needs.gradients || needs.lens {
        // Of the head, before the way there is computed.
        checkpoint.config().predicts()?;
    }
    if needs != Needs::NOTHING {
        let pass = Calibration::new(checkpoint, windows, (store, room), device, progress)?;
        pass.forward(needs)?;
        if needs.gradients {
            pass.back()?;
        }
    }
    store.tidy()
}

impl<'a> Calibration<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        windows: &'a [Vec<u32>],
        (store, room): (&'a EvidenceStore, usize),
        device: &Device,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let time = length(windows)?;
        let footprint = PassFootprint {
            config: checkpoint.config(),
            windows: windows.len(),
            time,
            refit: None,
            attention_weighted: false,
        };
        let network = Streamed::open(checkpoint, device)?;
        Ok(Self {
            checkpoint,
            windows,
            store,
            progress,
            rounds: footprint.backward_rounds(room),
            angles: network.angles(0..time),
            network,
            time,
            device: device.clone(),
        })
    }

    /// The forward pass: residual streams, and activations where needed, from behind the last block that an earlier
    /// run finished.
    fn forward(&self, needs: Needs) -> Result<()> {
        let layers = self.checkpoint.config().layers;
        let measured = |layer: usize| {
            (!needs.activations || self.store.has_activations(layer))
                && (!needs.attention_weighted || self.store.has_attention_weighted(layer))
                && (!needs.lens || self.store.has_lens(layer))
        };
        let enough = |layer: usize| self.store.states(layer).exists();
        let first = (0..layers)
            .rev()
            .find(|&layer| enough(layer + 1) && (0..=layer).all(measured));
        // The backward pass needs the residual streams before all blocks; without it those before the next are
        // enough.
        let first = match first {
            Some(layer) if !needs.gradients || (0..=layer).all(enough) => layer + 1,
            _ => 0,
        };
        if first == 0 {
            self.embed()?;
        }
        let windows = self.windows.len();
        self.progress
            .start("calibrating", (layers - first) * windows);
        for layer in first..layers {
            self.forward_block(layer, needs)?;
            // Not needed by the next block; a backward pass would need them all.
            if !needs.gradients {
                remove(&self.store.states(layer))?;
            }
        }
        Ok(())
    }

    /// Writes the residual streams before the first block.
    fn embed(&self) -> Result<()> {
        let writing = self.writing(&self.store.states(0))?;
        self.windows
            .par_iter()
            .enumerate()
            .try_for_each(|(i, window)| writing.write(i, &to_host(self.network.embed(window)?)?))?;
        writing.finish()
    }

    /// Takes all windows through one block, and stores its sums.
    fn forward_block(&self, layer: usize, needs: Needs) -> Result<()> {
        let block = Block::load(self.checkpoint, layer, &self.device)?;
        let states = self.states(&self.store.states(layer))?;
        let writing = self.writing(&self.store.states(layer + 1))?;
        let measures = Measure::all(needs);
        let width = |measure: &Measure| {
            self.checkpoint
                .config()
                .shape(measure.input_kind().reader())
                .cols
        };
        let mut sums: Vec<Symmetric> = measures
            .iter()
            .map(|measure| Symmetric::zeros(width(measure)))
            .collect();
        let mut absolute: Vec<Vec<f64>> = measures
            .iter()
            .map(|measure| vec![0.0; width(measure)])
            .collect();
        let looks = needs.lens && layer > 0;
        let mut divergence = Vec::new();
        for batch in self.batches() {
            let rows = |index: usize| {
                let before = self.tensor(states.read(index)?);
                let trace = trace(&block, before.clone(), &self.angles);
                let look = || {
                    let both = [before.clone(), trace.next.clone()];
                    lens::of_window(&self.network, both, (layer, index))
                };
                let apart = looks.then(look).transpose()?;
                writing.write(index, &to_host(trace.next.clone())?)?;
                self.progress.advance(1);
                let rows = measures
                    .iter()
                    .map(|measure| measure.rows((layer, index), &block, &trace, &self.angles));
                Ok((rows.collect::<Result<Vec<_>>>()?, apart))
            };
            // Rows are collected by window and then summed by band, so that the order of summation is that of the
            // windows.
            let seen: Vec<(Vec<Vec<f32>>, Option<f64>)> = batch
                .into_par_iter()
                .with_max_len(1)
                .map(rows)
                .collect::<Result<_>>()?;
            divergence.extend(seen.iter().filter_map(|(_, apart)| *apart));
            let by_measure: Vec<Vec<&[f32]>> = (0..measures.len())
                .map(|i| seen.iter().map(|(rows, _)| rows[i].as_slice()).collect())
                .collect();
            add_grams(&mut sums, &by_measure);
            for (sums, windows) in absolute.iter_mut().zip(&by_measure) {
                windows.iter().for_each(|x| add_absolute(sums, x));
            }
        }
        // Written last and by renaming: where they exist, they are whole.
        self.put_sums(layer, measures.into_iter().zip(sums).zip(absolute))?;
        if looks {
            self.store.put_lens(layer, &divergence)?;
        }
        writing.finish()
    }

    /// Stores the sums of a block, and the mean absolute activations of channels, of which `all` has the sums.
    fn put_sums(
        &self,
        layer: usize,
        all: impl Iterator<Item = ((Measure, Symmetric), Vec<f64>)>,
    ) -> Result<()> {
        let tokens = self.windows.len() * self.time;
        for ((measure, sum), mut absolute) in all {
            absolute.iter_mut().for_each(|x| *x /= tokens as f64);
            match measure {
                Measure::LayerInput(kind) => {
                    let input = LayerInput::new(layer, kind);
                    self.store.put_activations(input, &sum, &absolute, tokens)?;
                }
                Measure::AttentionWeighted => self.store.put_attention_weighted(layer, &sum)?,
            }
        }
        Ok(())
    }

    /// The backward pass from the loss to the first block, from the last block that an earlier run finished.
    fn back(&self) -> Result<()> {
        let layers = self.checkpoint.config().layers;
        let done = |&layer: &usize| {
            self.store.state_gradients(layer).exists()
                && (layer..layers).all(|l| self.store.has_gradients(l))
        };
        let last = (0..=layers).find(done);
        let last = if let Some(layer) = last {
            layer
        } else {
            self.loss()?;
            layers
        };
        let passes = last * self.rounds.len();
        self.progress
            .start("gradients", passes * self.windows.len());
        for layer in (0..last).rev() {
            self.back_through(layer)?;
            remove(&self.store.state_gradients(layer + 1))?;
        }
        Ok(())
    }

    /// Writes the gradients of each window's mean loss by the residual streams behind the last block.
    fn loss(&self) -> Result<()> {
        let layers = self.checkpoint.config().layers;
        let states = self.states(&self.store.states(layers))?;
        let writing = self.writing(&self.store.state_gradients(layers))?;
        self.progress.start("loss", self.windows.len());
        let ends = Decoder::load_ends(self.checkpoint, &self.device)?;
        self.windows
            .par_iter()
            .enumerate()
            .with_max_len(1)
            .try_for_each(|(i, window)| {
                let last = self.tensor(states.read(i)?);
                let gradient = to_host(of_loss(&ends, last, window)?.1)?;
                if !finite(&gradient) {
                    return Err(Error::Gradient {
                        layer: layers,
                        window: i,
                    });
                }
                self.progress.advance(1);
                writing.write(i, &gradient)
            })?;
        writing.finish()
    }

    /// Takes the gradients of all windows back through one block, and stores G and the Fisher information of its
    /// weights.
    fn back_through(&self, layer: usize) -> Result<()> {
        let block = Block::load(self.checkpoint, layer, &self.device)?;
        let states = self.states(&self.store.states(layer))?;
        let after = self.states(&self.store.state_gradients(layer + 1))?;
        let writing = self.writing(&self.store.state_gradients(layer))?;
        for roles in self.rounds {
            // Every round writes the same gradients by the residual stream.
            self.sum_gradients((layer, roles), &block, [&states, &after], &writing)?;
        }
        // Last: where they exist, all rounds are done.
        writing.finish()
    }

    /// One round of that: G and the Fisher information of some of the block's weights.
    fn sum_gradients(
        &self,
        (layer, roles): (usize, &[Role]),
        block: &Block,
        [states, after]: [&States; 2],
        writing: &Writing,
    ) -> Result<()> {
        let shape = |role: &Role| self.checkpoint.config().shape(*role);
        let zeros = |role| Symmetric::zeros(shape(role).rows);
        let mut sums: Vec<Symmetric> = roles.iter().map(zeros).collect();
        let zeros = |role| vec![0.0; shape(role).cols];
        let mut fisher: Vec<Vec<f64>> = roles.iter().map(zeros).collect();
        for batch in self.batches() {
            let one = |index: usize| {
                // The block runs forward again: its activations on disk would take many times the residual stream.
                let trace = trace(block, self.tensor(states.read(index)?), &self.angles);
                let next = self.tensor(after.read(index)?);
                let gradients = backward(block, &trace, &self.angles, next);
                let before = to_host(gradients.residual)?;
                if !finite(&before) {
                    return Err(Error::Gradient {
                        layer,
                        window: index,
                    });
                }
                writing.write(index, &before)?;
                self.progress.advance(1);
                let outputs = Role::ALL.into_iter().zip(gradients.outputs);
                let outputs = outputs.filter(|(role, _)| roles.contains(role));
                let outputs = outputs.map(|(role, g)| Ok((role, to_host(g)?)));
                let outputs = outputs.collect::<Result<Vec<_>>>()?;
                let squares = squares(&trace, &outputs)?;
                Ok((outputs, squares))
            };
            let parts = batch
                .into_par_iter()
                .with_max_len(1)
                .map(one)
                .collect::<Result<Vec<_>>>()?;
            let of_windows = |i: usize| parts.iter().map(move |(outputs, _)| &*outputs[i].1);
            let by_role: Vec<Vec<&[f32]>> =
                (0..roles.len()).map(|i| of_windows(i).collect()).collect();
            add_grams(&mut sums, &by_role);
            for (_, squares) in &parts {
                for (sum, square) in fisher.iter_mut().flatten().zip(squares.iter().flatten()) {
                    *sum += square;
                }
            }
        }
        for ((&role, sum), fisher) in roles.iter().zip(sums).zip(fisher) {
            self.store
                .put_gradients(Site::new(layer, role), &sum, &fisher)?;
        }
        Ok(())
    }

    /// Ranges of windows whose activations are in memory together.
    fn batches(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (size, all) = (side_by_side(self.time), self.windows.len());
        (0..all)
            .step_by(size)
            .map(move |first| first..(first + size).min(all))
    }

    /// Opens residual streams, or their gradients, that an earlier block has left.
    fn states(&self, path: &Path) -> Result<States> {
        States::open(path, self.time * self.checkpoint.config().hidden)
    }

    /// Starts residual streams, or their gradients.
    fn writing(&self, path: &Path) -> Result<Writing> {
        Writing::new(path, self.time * self.checkpoint.config().hidden)
    }

    /// The residual stream of one window, 1 × time × hidden.
    fn tensor(&self, numbers: Vec<f32>) -> Tensor<3> {
        let shape = [1, self.time, self.checkpoint.config().hidden];
        to_device(numbers, shape, &self.device)
    }
}

/// The squared gradients of one window, a sample, for the inputs of each weight whose output gradients are given.
fn squares(trace: &BlockTrace, outputs: &[(Role, Vec<f32>)]) -> Result<Vec<Vec<f64>>> {
    let of = |(role, g): &(Role, Vec<f32>)| {
        let x = trace.input(role.input_kind());
        let [_, time, width] = x.dims();
        let x = Matrix::new(time, width, to_host(x)?)?;
        let g = Matrix::new(time, g.len() / time, g.clone())?;
        Ok(squared_gradient(&x, &g)?)
    };
    outputs.iter().map(of).collect()
}
