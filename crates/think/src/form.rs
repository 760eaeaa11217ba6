//! The form of a head's old keys, or values: which channels are stored, rotated or not.

use std::borrow::Cow;

use compress_numerics::kernels::HEADER;

use crate::{Format, Side, hadamard::rotate, kept_channels, score::means};

/// How rows of d channels are stored.
#[derive(Clone, Debug)]
pub struct Form {
    pub format: Format,
    /// d.
    size: usize,
    /// The channels that are stored, in order; none where all are.
    kept: Option<Vec<u16>>,
    /// The others.
    dropped: Vec<u16>,
    /// The mean of each dropped channel over the prompt, where it counts; else nothing.
    means: Vec<f32>,
}

impl Form {
    /// The form of `side` for channels with these scores; `rows` are those of the prompt, of `scores.len()` channels.
    pub fn new(side: Side, scores: &[f64], rows: &[f32]) -> Self {
        let size = scores.len();
        let kept = kept_channels(scores, side.lambda);
        let dropped: Vec<u16> = (0..size as u16)
            .filter(|channel| kept.binary_search(channel).is_err())
            .collect();
        let all = means(rows, size, f64::from);
        let counted = dropped.iter().filter(|_| side.compensate);
        Self {
            format: side.format,
            size,
            means: counted.map(|&i| all[usize::from(i)] as f32).collect(),
            kept: (!dropped.is_empty()).then_some(kept),
            dropped,
        }
    }

    /// The same for tokens behind the prompt: its means are not theirs.
    pub fn without_means(&self) -> Self {
        Self {
            means: Vec::new(),
            ..self.clone()
        }
    }

    /// Channels that are stored.
    pub fn width(&self) -> usize {
        self.size - self.dropped.len()
    }

    /// Whole rows as they are stored.
    pub fn stored<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        let mut stored = match &self.kept {
            Some(kept) => {
                let rows = rows.chunks_exact(self.size);
                let kept = |row: &'a [f32]| kept.iter().map(|&i| row[usize::from(i)]);
                Cow::Owned(rows.flat_map(kept).collect())
            }
            None => Cow::Borrowed(rows),
        };
        if self.rotated() {
            let rows = stored.to_mut().chunks_exact_mut(self.size);
            rows.for_each(rotate);
        }
        stored
    }

    /// Rows with all channels again, from rows as they are stored: dropped ones by their means, or 0.
    pub fn whole(&self, mut stored: Vec<f32>) -> Vec<f32> {
        if self.rotated() {
            stored.chunks_exact_mut(self.size).for_each(rotate);
        }
        if self.kept.is_none() {
            return stored;
        }
        let rows = stored.chunks_exact(self.width());
        let whole = rows.map(|row| {
            let mut whole = vec![0.0; self.size];
            self.put(row, 1.0, &mut whole);
            whole
        });
        whole.collect::<Vec<_>>().concat()
    }

    /// What dropped channels add to every score of a query, one number: its product with their means.
    pub fn constant(&self, query: &[f32]) -> f32 {
        let means = self.dropped.iter().zip(&self.means);
        means.map(|(&i, mean)| query[usize::from(i)] * mean).sum()
    }

    /// A part of attention over all channels, 2 + d numbers, from the sums over values in this form.
    pub fn put_back(&self, header: [f32; HEADER], sums: &[f32], out: &mut [f32]) {
        out[..HEADER].copy_from_slice(&header);
        let out = &mut out[HEADER..];
        // The means are weighted by all exponentials of the part.
        self.put(sums, header[1], out);
        if self.rotated() {
            rotate(out);
        }
    }

    /// Puts stored channels in their places, and `weight` times the means into those of dropped ones, which are 0 so far.
    fn put(&self, stored: &[f32], weight: f32, out: &mut [f32]) {
        let Some(kept) = &self.kept else {
            out.copy_from_slice(stored);
            return;
        };
        for (&i, x) in kept.iter().zip(stored) {
            out[usize::from(i)] = *x;
        }
        for (&i, mean) in self.dropped.iter().zip(&self.means) {
            out[usize::from(i)] = weight * mean;
        }
    }

    const fn rotated(&self) -> bool {
        matches!(self.format, Format::Rotated { .. })
    }
}
