//! Forward passes over windows, for models that are in memory and for models streamed from disk.
//!
//! Windows are taken in batches. All windows of a batch go through a block of each model before the
//! next block is taken, so that a streamed block is loaded once per batch; then their logits are
//! computed, a slice of positions at a time, since time × vocabulary numbers are many. Blocks that
//! are in memory need no batches: on the CPU each window is then a batch, and the batches run in parallel; on a GPU
//! some windows go through a block as one tensor. Sums are taken in the same order on the CPU, so the results are equal there.
//!
//! Memory: see [`Footprint`](crate::Footprint).

use std::{ops::Range, time::Instant};

use burn::tensor::Tensor;
use compress_models::{Device, Network};

use crate::{
    Error, Perplexity, Reference, Result,
    batch::{pass_through, together, wait},
    cached,
    divergence::{Divergence, divergence, top},
    logits::{Logits, loss},
    parallel::{side_by_side, timed},
};

/// The windows to score, and how.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The windows, each of at least two tokens; all but the first token of each are scored.
    pub windows: &'a [Vec<u32>],
    /// Windows that go through a block which was loaded for them: more windows cost more memory and
    /// load each block less often. Where all models are in memory another number is taken.
    pub batch: usize,
    /// Tokens of each window that are a prompt: it is read into a key-value cache, the model's cache policy is
    /// applied, and the tokens after it are scored given what the cache holds. None where whole windows
    /// are read and scored. With it models must be in memory, and the first token after the prompt is not scored.
    pub split: Option<usize>,
    /// Called with the number of tokens that have been completed since the last call, from any
    /// thread.
    pub done: &'a (dyn Fn(usize) + Sync),
}

/// The origin of a model's last hidden states.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Its blocks are run.
    Network(&'a dyn Network),
    /// They were stored by an earlier pass, and only the head is run.
    Reference(&'a Reference<'a>),
}

impl<'a> Source<'a> {
    /// The network whose head turns the states into logits.
    fn network(self) -> &'a dyn Network {
        match self {
            Self::Network(network) => network,
            Self::Reference(reference) => reference.network(),
        }
    }

    /// The number of blocks to run.
    fn layers(self) -> usize {
        match self {
            Self::Network(network) => network.layers(),
            Self::Reference(_) => 0,
        }
    }

    /// The residual stream of each window after the last norm, time × hidden.
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

/// The number of blocks of the deepest model.
fn layers(sources: &[Source<'_>]) -> usize {
    let layers = sources.iter().map(|source| source.layers());
    layers.max().unwrap_or_default()
}

/// The last hidden states of a batch, time × hidden, by source and window, and the seconds that
/// each source took.
pub struct Hidden {
    pub states: Vec<Vec<Tensor<2>>>,
    pub seconds: Vec<f64>,
}

/// The contribution of one window, by source: summed loss, seconds, divergence of each token,
/// tokens with the same argmax.
struct Part {
    loss: Vec<f64>,
    seconds: Vec<f64>,
    kl: Vec<Vec<f64>>,
    same: Vec<usize>,
}

/// The result of a pass for one source. `kl` is measured against the first source.
pub struct Found {
    pub score: Perplexity,
    pub kl: Divergence,
}

impl Pass<'_> {
    /// Scores all windows by all sources, and measures the divergence of the others from the first.
    /// Fails where vocabularies differ in size, a block cannot be loaded, or a logit is not finite.
    pub(crate) fn score(&self, sources: &[Source<'_>]) -> Result<Vec<Found>> {
        let vocabularies: Vec<usize> = sources.iter().map(|s| s.network().vocabulary()).collect();
        if let Some(&other) = vocabularies.iter().find(|&&other| other != vocabularies[0]) {
            let original = vocabularies[0];
            return Err(Error::Vocabulary { original, other });
        }
        // The mean over no tokens is not a number.
        let least = self.first_scored() + 2;
        if self.windows.is_empty() || self.windows.iter().any(|window| window.len() < least) {
            let problem = format!(
                "windows of at least {least} tokens each are needed, to predict one behind the prompt and the first token"
            );
            return Err(Error::Protocol { problem });
        }
        // The wall clock of the whole pass: batches may run in parallel.
        let start = Instant::now();
        let batches = self.for_each_batch(sources, |batch| self.score_batch(sources, batch))?;
        let wall = start.elapsed().as_secs_f64();
        let seconds = |source: usize| batches.iter().map(move |(_, seconds)| seconds[source]);
        let busy = (0..sources.len()).flat_map(seconds).sum::<f64>();
        let unscored = self.first_scored() + 1;
        let found = (0..sources.len()).map(|source| {
            let parts = || batches.iter().flat_map(|(parts, _)| parts);
            // Each model's share of the wall time, which batches running side by side divide
            // between them.
            let own = wall * seconds(source).sum::<f64>() / busy;
            // A reference's blocks ran in an earlier pass, which counts.
            let before = match sources[source] {
                Source::Network(_) => 0.0,
                Source::Reference(reference) => reference.seconds(),
            };
            let losses = parts().map(|part| part.loss[source]);
            let tokens = self.windows.iter().map(|window| window.len() - unscored);
            let windows: Vec<(f64, usize)> = losses.zip(tokens).collect();
            let kl = parts().flat_map(|part| &part.kl[source]).copied().collect();
            let same = parts().map(|part| part.same[source]).sum();
            Found {
                score: Perplexity::new(&windows, own + before),
                kl: Divergence::of(kl, same),
            }
        });
        Ok(found.collect())
    }

    /// Runs all batches and returns their results in order: in parallel on the CPU where every
    /// model is in memory, else one after the other.
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
            let batches = count.div_ceil(self.batch.max(1)).max(1);
            // Batches of equal size, give or take one: a small last batch would leave cores idle.
            let end = |batch: usize| batch * count / batches;
            return (0..batches).map(|i| run(end(i)..end(i + 1))).collect();
        }
        let devices = sources.iter().map(|source| source.network().device());
        let longest = self.windows.iter().map(Vec::len).max().unwrap_or_default();
        let on_cpu = devices.clone().all(|device| device == Device::flex());
        let together = if on_cpu { 1 } else { together(longest) };
        let batches = count.div_ceil(together);
        side_by_side(devices, batches, |batch| {
            let first = batch * together;
            run(first..count.min(first + together))
        })
    }

    /// The windows of a batch, scored; and the seconds of each source.
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
            let window = (index, self.windows[index].as_slice());
            score_window(sources, &states, window, self.first_scored())
        })?;
        self.tell(&batch, sources, usize::MAX);
        let wall = clock.elapsed().as_secs_f64();
        let own = |source: usize| parts.iter().map(move |part| part.seconds[source]);
        let busy = (0..sources.len()).flat_map(own).sum::<f64>();
        // Windows ran in parallel, so their times add up to more than the wall time: each source
        // gets its share of that.
        for (source, seconds) in seconds.iter_mut().enumerate() {
            *seconds += wall * own(source).sum::<f64>() / busy;
        }
        Ok((parts, seconds))
    }

    /// The last hidden states of a batch. The models alternate block by block, so that their times
    /// compare even on a machine with other load.
    pub(crate) fn hidden(&self, sources: &[Source<'_>], batch: Range<usize>) -> Result<Hidden> {
        if let Some(split) = self.split {
            return self.through_caches(sources, batch, split);
        }
        let mut seconds = vec![0.0; sources.len()];
        let mut streams = Vec::with_capacity(sources.len());
        for (source, seconds) in sources.iter().zip(&mut seconds) {
            streams.push(timed(seconds, || self.embed(source, &batch))?);
        }
        let windows = &self.windows[batch.clone()];
        let time = windows.iter().map(Vec::len).max().unwrap_or_default();
        // Once per batch, for its longest window; shorter ones use the first of them.
        let angles: Vec<_> = sources
            .iter()
            .map(|s| s.network().angles(0..time))
            .collect();
        for layer in 0..layers(sources) {
            for (index, source) in sources.iter().enumerate() {
                // The models may differ in depth.
                if let Source::Network(network) = source
                    && layer < network.layers()
                {
                    timed(&mut seconds[index], || {
                        let block = network.block(layer)?;
                        pass_through(&block, &angles[index], &mut streams[index]);
                        // A GPU works on while the next model's turn begins: its time would count as the other's.
                        if sources.len() > 1 {
                            wait(&network.device())?;
                        }
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

    /// The position from which on the next token is scored: that of the first token behind a prompt.
    fn first_scored(&self) -> usize {
        self.split.unwrap_or(0)
    }

    /// The same through key-value caches. Fails where a model is not in memory.
    fn through_caches(
        &self,
        sources: &[Source<'_>],
        batch: Range<usize>,
        split: usize,
    ) -> Result<Hidden> {
        let mut seconds = vec![0.0; sources.len()];
        let mut states = Vec::with_capacity(sources.len());
        for (source, seconds) in sources.iter().zip(&mut seconds) {
            let network = match source {
                Source::Network(network) => *network,
                Source::Reference(_) => {
                    // Its states were made so by the pass that stored them.
                    states.push(source.normed(self.embed(source, &batch)?));
                    continue;
                }
            };
            let decoder = network.whole().ok_or_else(|| Error::Protocol {
                problem: "behind a prompt, models have to be in memory whole; give more --memory, or leave out --split"
                    .into(),
            })?;
            let windows = self.windows[batch.clone()].iter();
            states.push(timed(seconds, || {
                windows
                    .map(|window| cached::hidden(decoder, window, split))
                    .collect()
            })?);
        }
        for layer in 0..layers(sources) {
            self.tell(&batch, sources, layer);
        }
        Ok(Hidden { states, seconds })
    }

    /// The input of the first block for each window, 1 × time × hidden; for a reference its stored
    /// states, which no block changes.
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

    /// Reports the share of a batch's tokens that a block stands for. The logits count as one more
    /// block; rounding is such that the shares add up to the tokens exactly.
    fn tell(&self, batch: &Range<usize>, sources: &[Source<'_>], layer: usize) {
        let tokens: usize = self.windows[batch.clone()].iter().map(Vec::len).sum();
        let steps = layers(sources) + 1;
        let step = layer.min(steps - 1);
        (self.done)(tokens * (step + 1) / steps - tokens * step / steps);
    }
}

/// Loss and divergence of one window by all sources, from the last hidden states and the `first` position on. Logits are in
/// memory for one group of slices and two sources at a time: the first's and one other's.
fn score_window(
    sources: &[Source<'_>],
    states: &[&Tensor<2>],
    (index, window): (usize, &[u32]),
    first: usize,
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
    // A head that is read from disk takes several slices per pass over its rows; all sources must
    // use the same slices to be compared.
    let at_a_time = at_a_time.max().unwrap_or(1);
    let slices = networks
        .first()
        .map(|network| network.slices(window.len() - 1 - first));
    let scored = |slice: Range<usize>| slice.start + first..slice.end + first;
    let slices: Vec<_> = slices.into_iter().flatten().map(scored).collect();
    for slices in slices.chunks(at_a_time) {
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
            // The first source is the original: it has nothing to be compared with.
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
