//! The one way in which windows are scored, by networks that are whole in memory and by streamed ones.
//!
//! Windows are taken in batches. All windows of a batch go through a block of each network before the next
//! block is taken, so that a block which has to be loaded is loaded once for all of them; in the end their
//! logits are taken slice by slice. Blocks that are in memory anyway need no batches: there each window is one,
//! and the batches run side by side. The sums are the same, in the same order.

use std::{ops::Range, time::Instant};

use burn::tensor::Tensor;
use compress_models::{Block, Device, Network, RotaryAngles};
use rayon::prelude::*;

use crate::{
    Error, Perplexity, Reference, Result,
    divergence::{Divergence, divergence, top},
    logits::{Logits, loss},
};

/// The windows that are scored, and how many go through a block at a time.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The windows; in each all tokens but the first are scored.
    pub windows: &'a [Vec<u32>],
    /// How many of them go through a block that was loaded for them. Of no meaning to networks that are whole
    /// in memory.
    pub batch: usize,
    /// Told of the tokens that are done.
    pub done: &'a (dyn Fn(usize) + Sync),
}

/// Where the last hidden states of a model come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// From its blocks.
    Network(&'a dyn Network),
    /// From disk, where an earlier pass has left them.
    Reference(&'a Reference<'a>),
}

impl<'a> Source<'a> {
    /// The network whose head makes logits of them.
    fn network(self) -> &'a dyn Network {
        match self {
            Self::Network(network) => network,
            Self::Reference(reference) => reference.network(),
        }
    }

    fn layers(self) -> usize {
        match self {
            Self::Network(network) => network.layers(),
            Self::Reference(_) => 0,
        }
    }

    /// The last norm of each window's stream, time × hidden.
    fn normed(self, streams: Vec<Tensor<3>>) -> Vec<Tensor<2>> {
        let one = |x: Tensor<3>| {
            let [_, time, width] = x.dims();
            let normed = match self {
                Self::Network(network) => network.normed(x),
                Self::Reference(_) => x, // it has been
            };
            normed.reshape([time, width])
        };
        streams.into_iter().map(one).collect()
    }
}

/// Blocks of the deepest.
fn layers(sources: &[Source<'_>]) -> usize {
    let layers = sources.iter().map(|source| source.layers());
    layers.max().unwrap_or_default()
}

/// Takes windows through a block, side by side.
fn pass_through(block: &Block, angles: &RotaryAngles, streams: &mut [Tensor<3>]) {
    let forward = |x: &mut Tensor<3>| {
        let angles = angles.first(x.dims()[1]);
        *x = block.forward(x.clone(), &angles, None);
    };
    let device = streams.first().map(Tensor::device);
    if device.is_some_and(|device| side_by_side_pays(&device, streams.len())) {
        streams.par_iter_mut().with_max_len(1).for_each(forward);
    } else {
        streams.iter_mut().for_each(forward);
    }
}

/// The last hidden states of a batch, time × hidden, by source and window; and the seconds each source took.
pub struct Hidden {
    pub states: Vec<Vec<Tensor<2>>>,
    pub seconds: Vec<f64>,
}

/// The sums over one window, for one source.
struct Part {
    loss: Vec<f64>,
    seconds: Vec<f64>,
    kl: Vec<Vec<f64>>,
    same: Vec<usize>,
}

/// The results of a pass for each source; those after the first were measured against it.
pub struct Found {
    pub score: Perplexity,
    pub kl: Divergence,
}

impl Pass<'_> {
    /// Scores all windows by all sources, and measures how far those after the first are from it.
    pub(crate) fn score(&self, sources: &[Source<'_>]) -> Result<Vec<Found>> {
        let vocabularies: Vec<usize> = sources.iter().map(|s| s.network().vocabulary()).collect();
        if let Some(&other) = vocabularies.iter().find(|&&other| other != vocabularies[0]) {
            let original = vocabularies[0];
            return Err(Error::Vocabulary { original, other });
        }
        let start = Instant::now();
        let batches = self.for_each_batch(sources, |batch| self.score_batch(sources, batch))?;
        let wall = start.elapsed().as_secs_f64();
        let seconds = |source: usize| batches.iter().map(move |(_, seconds)| seconds[source]);
        let busy = (0..sources.len()).flat_map(seconds).sum::<f64>();
        let tokens = self.windows.iter().map(|window| window.len() - 1).sum();
        let found = (0..sources.len()).map(|source| {
            let parts = || batches.iter().flat_map(|(parts, _)| parts);
            // Each model's share of the wall time, which batches running side by side divide between them.
            let own = wall * seconds(source).sum::<f64>() / busy;
            let before = match sources[source] {
                Source::Network(_) => 0.0,
                Source::Reference(reference) => reference.seconds(),
            };
            let loss = parts().map(|part| part.loss[source]).sum();
            let kl = parts().flat_map(|part| &part.kl[source]).copied().collect();
            let same = parts().map(|part| part.same[source]).sum();
            Found {
                score: Perplexity::new(loss, tokens, own + before),
                kl: Divergence::of(kl, same),
            }
        });
        Ok(found.collect())
    }

    /// Windows in batches: side by side on the CPU where each network holds its blocks, else one batch after
    /// the other. Results in order.
    pub(crate) fn for_each_batch<T: Send>(
        &self,
        sources: &[Source<'_>],
        run: impl Fn(Range<usize>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let loaded = |source: &Source<'_>| match source {
            Source::Network(network) => network.whole().is_none(),
            Source::Reference(_) => false,
        };
        let count = self.windows.len();
        if sources.iter().any(loaded) {
            // As even as can be: a last batch of few windows would keep few cores busy.
            let batches = count.div_ceil(self.batch.max(1)).max(1);
            let end = |batch: usize| batch * count / batches;
            return (0..batches).map(|i| run(end(i)..end(i + 1))).collect();
        }
        let devices = sources.iter().map(|source| source.network().device());
        side_by_side(devices, count, |window| run(window..window + 1))
    }

    fn score_batch(
        &self,
        sources: &[Source<'_>],
        batch: Range<usize>,
    ) -> Result<(Vec<Part>, Vec<f64>)> {
        let Hidden {
            states,
            mut seconds,
        } = self.hidden(sources, batch.clone())?;
        let clock = Instant::now();
        let devices = sources.iter().map(|source| source.network().device());
        let parts = side_by_side(devices, batch.len(), |place| {
            let states: Vec<&Tensor<2>> = states.iter().map(|windows| &windows[place]).collect();
            let index = batch.start + place;
            score_window(sources, &states, index, &self.windows[index])
        })?;
        self.tell(&batch, sources, usize::MAX);
        let wall = clock.elapsed().as_secs_f64();
        let own = |source: usize| parts.iter().map(move |part| part.seconds[source]);
        let busy = (0..sources.len()).flat_map(own).sum::<f64>();
        for (source, seconds) in seconds.iter_mut().enumerate() {
            *seconds += wall * own(source).sum::<f64>() / busy;
        }
        Ok((parts, seconds))
    }

    /// Takes the windows of a batch through all blocks. The models take turns, so that their speeds compare
    /// even on a machine with other work.
    pub(crate) fn hidden(&self, sources: &[Source<'_>], batch: Range<usize>) -> Result<Hidden> {
        let mut seconds = vec![0.0; sources.len()];
        let mut streams = Vec::with_capacity(sources.len());
        for (source, seconds) in sources.iter().zip(&mut seconds) {
            streams.push(timed(seconds, || self.embed(source, &batch))?);
        }
        let windows = &self.windows[batch.clone()];
        let time = windows.iter().map(Vec::len).max().unwrap_or_default();
        let angles: Vec<_> = sources
            .iter()
            .map(|s| s.network().angles(0..time))
            .collect();
        for layer in 0..layers(sources) {
            for (index, source) in sources.iter().enumerate() {
                // Of two models one may have fewer blocks.
                if let Source::Network(network) = source
                    && layer < network.layers()
                {
                    timed(&mut seconds[index], || {
                        let block = network.block(layer)?;
                        pass_through(&block, &angles[index], &mut streams[index]);
                        Ok(())
                    })?;
                }
            }
            self.tell(&batch, sources, layer);
        }
        let pairs = sources.iter().zip(streams);
        let states = pairs
            .map(|(source, stream)| source.normed(stream))
            .collect();
        Ok(Hidden { states, seconds })
    }

    /// The states before the first block; of a reference those after the last norm. Each 1 × time × hidden.
    fn embed(&self, source: &Source<'_>, batch: &Range<usize>) -> Result<Vec<Tensor<3>>> {
        let device = [source.network().device()].into_iter();
        side_by_side(device, batch.len(), |place| {
            let index = batch.start + place;
            let window = &self.windows[index];
            match source {
                Source::Network(network) => Ok(network.embed(window)?),
                Source::Reference(reference) => reference.read(index, window.len()),
            }
        })
    }

    /// Tells of a batch's share of tokens that a block stands for; after the last there are the logits.
    fn tell(&self, batch: &Range<usize>, sources: &[Source<'_>], layer: usize) {
        let tokens: usize = self.windows[batch.clone()].iter().map(Vec::len).sum();
        let steps = layers(sources) + 1;
        let step = layer.min(steps - 1);
        (self.done)(tokens * (step + 1) / steps - tokens * step / steps);
    }
}

/// Logits, losses and divergences of one window by all sources, from the last hidden states.
fn score_window(
    sources: &[Source<'_>],
    states: &[&Tensor<2>],
    index: usize,
    window: &[u32],
) -> Result<Part> {
    let count = sources.len();
    let mut part = Part {
        loss: vec![0.0; count],
        seconds: vec![0.0; count],
        kl: vec![Vec::new(); count],
        same: vec![0; count],
    };
    let networks: Vec<&dyn Network> = sources.iter().map(|source| source.network()).collect();
    let at_a_time = networks.iter().map(|network| network.slices_at_a_time());
    let at_a_time = at_a_time.max().unwrap_or(1);
    let slices = networks
        .first()
        .map(|network| network.slices(window.len() - 1));
    for slices in slices.unwrap_or_default().chunks(at_a_time) {
        let mut original: Option<Vec<Logits>> = None;
        for (source, network) in networks.iter().enumerate() {
            let logits = timed(&mut part.seconds[source], || {
                let logits = network.logits(states[source], slices)?;
                let logits = logits.into_iter().map(Logits::new);
                let logits = logits.collect::<Result<Vec<_>>>()?;
                for (logits, slice) in logits.iter().zip(slices) {
                    part.loss[source] += loss(logits, slice, index, window)?;
                }
                Ok(logits)
            })?;
            let Some(original) = &original else {
                original = Some(logits);
                continue;
            };
            for ((p, q), slice) in original.iter().zip(&logits).zip(slices) {
                for ((p, q), position) in p.rows().zip(q.rows()).zip(slice.clone()) {
                    part.kl[source].push(divergence(p, q, index, position)?);
                    part.same[source] += usize::from(top(p) == top(q));
                }
            }
        }
    }
    Ok(part)
}

/// Does so many things side by side on the CPU, one after the other on a GPU; results in order.
pub fn side_by_side<T: Send>(
    mut devices: impl Iterator<Item = Device>,
    count: usize,
    run: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if devices.all(|device| side_by_side_pays(&device, count)) {
        let each = (0..count).into_par_iter().with_max_len(1);
        each.map(&run).collect()
    } else {
        (0..count).map(run).collect()
    }
}

/// A single one has all cores for its products.
fn side_by_side_pays(device: &Device, count: usize) -> bool {
    *device == Device::flex() && count > 1
}

/// Does some work, and adds the seconds that it took.
fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let clock = Instant::now();
    let result = work()?;
    *seconds += clock.elapsed().as_secs_f64();
    Ok(result)
}
