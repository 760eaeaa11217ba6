//! The form of a head's old keys, or values: which channels are stored, in how many bits, rotated or not.

use std::borrow::Cow;

use crate::{
    Format, Side,
    channel_bits::{CHOICES, channel_bits},
    hadamard::rotate,
    kept_channels,
    score::means,
    tile::Coding,
    tiles::{Along, Layout, Section},
};

/// How rows of d channels are stored.
#[derive(Clone, Debug)]
pub struct Form {
    /// d.
    size: usize,
    /// The channels that are stored, in the order of the layout's sections; none where all are, in their own order.
    stored: Option<Vec<u16>>,
    /// Whether all channels are rotated before.
    rotated: bool,
    pub layout: Layout,
    /// The channels that are not stored.
    dropped: Vec<u16>,
    /// The mean of each dropped channel over the prompt, where it counts; else nothing.
    means: Vec<f32>,
}

impl Form {
    /// The form of `side` for channels with these scores; `prompt` has its rows, of `scores.len()` channels.
    pub fn new(side: Side, rows: Along, scores: &[f64], prompt: &[f32]) -> Self {
        let size = scores.len();
        let coding = |bits, by_channel, symmetric| Coding {
            bits,
            of_rows: by_channel == (rows == Along::Channels),
            symmetric,
        };
        let one = |coding| {
            let kept = kept_channels(scores, side.lambda);
            let width = kept.len();
            (kept, vec![Section { coding, width }])
        };
        let (stored, sections) = match side.format {
            Format::F32 => one(coding(32, false, false)),
            Format::F16 => one(coding(16, false, false)),
            Format::ByChannel { bits } => one(coding(bits, true, false)),
            Format::ByToken { bits } => one(coding(bits, false, false)),
            Format::Rotated { bits } => one(coding(bits, false, true)),
            Format::Mixed { bits } => {
                let bits = channel_bits(scores, prompt, bits, side.compensate);
                mixed(&bits, |bits| coding(bits, true, false))
            }
        };
        let mut sorted = stored.clone();
        sorted.sort_unstable();
        let dropped: Vec<u16> = (0..size as u16)
            .filter(|channel| sorted.binary_search(channel).is_err())
            .collect();
        let all = means(prompt, size, f64::from);
        let counted = dropped.iter().filter(|_| side.compensate);
        Self {
            size,
            means: counted.map(|&i| all[usize::from(i)] as f32).collect(),
            stored: (sections.len() > 1 || !dropped.is_empty()).then_some(stored),
            rotated: matches!(side.format, Format::Rotated { .. }),
            layout: Layout { rows, sections },
            dropped,
        }
    }

    /// Whole rows as they are stored.
    pub fn stored<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        let mut stored = match &self.stored {
            Some(channels) => {
                let rows = rows.chunks_exact(self.size);
                let picked = |row: &'a [f32]| channels.iter().map(|&i| row[usize::from(i)]);
                Cow::Owned(rows.flat_map(picked).collect())
            }
            None => Cow::Borrowed(rows),
        };
        if self.rotated {
            let rows = stored.to_mut().chunks_exact_mut(self.size);
            rows.for_each(rotate);
        }
        stored
    }

    /// Rows with all channels again, from as many rows as they are stored: dropped ones are their means `weight` times, or
    /// 0.
    pub fn whole(&self, stored: &[f32], tokens: usize, weight: f32) -> Vec<f32> {
        let mut whole = vec![0.0; tokens * self.size];
        let width = self.layout.width();
        for (index, whole) in whole.chunks_exact_mut(self.size).enumerate() {
            self.put(&stored[index * width..][..width], weight, whole);
        }
        whole
    }

    /// What dropped channels add to every score of a query, one number: its product with their means.
    pub fn constant(&self, query: &[f32]) -> f32 {
        let means = self.dropped.iter().zip(&self.means);
        means.map(|(&i, mean)| query[usize::from(i)] * mean).sum()
    }

    /// Puts stored channels in their places, and `weight` times the means into those of dropped ones, which are 0 so far.
    pub fn put(&self, stored: &[f32], weight: f32, out: &mut [f32]) {
        match &self.stored {
            Some(channels) => {
                for (&i, x) in channels.iter().zip(stored) {
                    out[usize::from(i)] = *x;
                }
            }
            None => out.copy_from_slice(stored),
        }
        for (&i, mean) in self.dropped.iter().zip(&self.means) {
            out[usize::from(i)] = weight * mean;
        }
        if self.rotated {
            rotate(out);
        }
    }
}

/// Channels in the order of their bits, the most first and those of none left out, and a section for each number of
/// bits.
fn mixed(bits: &[u8], coding: impl Fn(u8) -> Coding) -> (Vec<u16>, Vec<Section>) {
    let (mut stored, mut sections) = (Vec::new(), Vec::new());
    for choice in CHOICES.into_iter().rev().filter(|bits| *bits > 0) {
        let before = stored.len();
        let channels = (0..).zip(bits).filter(|(_, own)| **own == choice);
        stored.extend(channels.map(|(channel, _)| channel));
        let width = stored.len() - before;
        if width > 0 {
            let coding = coding(choice);
            sections.push(Section { coding, width });
        }
    }
    (stored, sections)
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;
    use crate::{LayerPolicy, tiles::Tiles};

    /// Bytes of 64 tokens of a side whose channels score as their place.
    fn stored(side: Side, rows: Along, size: usize) -> usize {
        let scores: Vec<f64> = (0..size).map(|i| 1.0 + i as f64).collect();
        let mut random = Random(2);
        let prompt: Vec<f32> = (0..64 * size).map(|_| random.normal()).collect();
        match Tiles::new(&Form::new(side, rows, &scores, &prompt).layout, 64) {
            Tiles::Single(numbers) => 4 * numbers.capacity(),
            Tiles::Half(numbers) => 2 * numbers.capacity(),
            Tiles::Integers(codes, grids) => codes.capacity() + 2 * grids.capacity(),
        }
    }

    #[test]
    fn a_token_takes_the_bytes_that_its_policy_says() {
        let keys = [
            Format::F32,
            Format::F16,
            Format::ByChannel { bits: 4 },
            Format::Mixed { bits: 2.75 },
        ];
        let values = [
            Format::F16,
            Format::ByToken { bits: 3 },
            Format::Rotated { bits: 2 },
            Format::ByToken { bits: 8 },
        ];
        for size in [32, 48, 64, 80, 96, 128] {
            for (keys, values) in keys.into_iter().zip(values) {
                for lambda in [0.0, 0.25] {
                    let side = |format| Side {
                        // These drop no channel, or choose them.
                        lambda: match format {
                            Format::Mixed { .. } | Format::Rotated { .. } => 0.0,
                            _ => lambda,
                        },
                        format,
                        ..Side::default()
                    };
                    let policy = LayerPolicy {
                        keys: side(keys),
                        values: side(values),
                        ..LayerPolicy::default()
                    };
                    let told = 64.0 * policy.bytes_of_old(size);
                    let found = stored(policy.keys, Along::Channels, size)
                        + stored(policy.values, Along::Tokens, size);
                    let share = found as f64 / told;
                    // Of mixed bits less than a channel's next step is left, of 3 bits a byte may be begun.
                    assert!((0.9..1.01).contains(&share), "{size}, {policy:?}: {share}");
                }
            }
        }
    }
}
