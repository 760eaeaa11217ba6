//! What a walk takes, foretold: memory at its fullest, and disk.

use compress_checkpoint::Config;
use compress_core::{Inlet, Needs, Role, Shape};

use crate::{Aim, calibrate::side_by_side, measured::target_rows};

/// A walk to be, by all that decides what it takes.
#[derive(Clone, Copy)]
pub struct Footprint<'a> {
    /// The network.
    pub config: &'a Config,
    /// How many windows.
    pub windows: usize,
    /// Tokens of each.
    pub time: usize,
    /// What weights behind compressed ones aim at; none where the original walks alone.
    pub aim: Option<Aim>,
    /// Whether tokens are weighted by the attention they get, as well.
    pub attended: bool,
}

/// Bytes of an `f32`.
const SINGLE: usize = 4;

/// Bytes of an `f64`.
const DOUBLE: usize = 8;

impl Footprint<'_> {
    /// Bytes of memory while what enters at an inlet is measured.
    #[must_use]
    pub fn measuring(&self, inlet: Inlet) -> usize {
        let side = side_by_side(self.time).min(self.windows);
        let threads = rayon::current_num_threads().min(side);
        let passed = before(inlet);
        let weights = self.weights(inlet) + self.walks() * passed.map_or(0, |p| self.weights(p));
        let n = self.width(inlet);
        let seen = side * self.time * (n + self.rows(inlet)) * self.kinds(inlet);
        // Of each walk what goes in and what comes out, which is written as bytes; of one what is between.
        let hidden = self.config.hidden;
        let old = passed.map_or(hidden, |p| self.width(p));
        let ends = self.walks() * (2 * hidden + n) + hidden + 2 * old.max(n);
        let in_flight = threads * self.time * (ends + self.between(passed));
        SINGLE * (weights + seen + in_flight) + self.sums(inlet)
    }

    /// Bytes of memory while a pass forward, and with gradients one back, measures all inlets of a block at once.
    #[must_use]
    pub fn passing(&self, gradients: bool) -> usize {
        let side = side_by_side(self.time).min(self.windows);
        let block: usize = Inlet::ALL.map(|inlet| self.weights(inlet)).iter().sum();
        let shapes = || Inlet::ALL.into_iter().flat_map(|inlet| self.shapes(inlet));
        let (inputs, outputs): (usize, usize) = (
            Inlet::ALL.map(|inlet| self.width(inlet)).iter().sum(),
            shapes().map(|shape| shape.rows).sum(),
        );
        let triangle = |n: usize| DOUBLE * n * (n + 1) / 2;
        let activations: usize = Inlet::ALL
            .map(|inlet| triangle(self.width(inlet)))
            .iter()
            .sum();
        let by_outputs: usize = shapes().map(|shape| triangle(shape.rows)).sum();
        let hidden = self.config.hidden;
        let threads = rayon::current_num_threads().min(side);
        // What is met on the way of a window on its core, and on the way back its gradients as well; what is
        // summed is kept of all windows side by side.
        let met = inputs + outputs + 3 * hidden;
        let largest = shapes().map(Shape::size).max().unwrap_or(0);
        let on_each = |numbers: usize| threads * self.time * numbers;
        let forward =
            activations + SINGLE * (block + on_each(met + inputs) + side * self.time * inputs);
        let squared = threads * (largest + self.time * self.rows_and_columns());
        let back = by_outputs
            + SINGLE * (block + on_each(2 * met + outputs) + side * self.time * outputs + squared);
        if gradients {
            forward.max(back)
        } else {
            forward
        }
    }

    /// Bytes of memory that stay while the weights at an inlet are compressed: what was measured, and what
    /// the weights are to be.
    #[must_use]
    pub fn held(&self, inlet: Inlet) -> usize {
        let n = self.width(inlet);
        let targets = usize::from(self.aim == Some(Aim::Original)) * self.weights(inlet);
        let h = DOUBLE * n * (n + 1) / 2 * self.kinds(inlet);
        h + SINGLE * (self.weights(inlet) + targets)
    }

    /// Bytes of memory while what those weights are to be is solved for.
    #[must_use]
    pub fn solving(&self, inlet: Inlet) -> usize {
        if self.aim != Some(Aim::Original) {
            return 0;
        }
        let n = self.width(inlet);
        let largest = self.shapes(inlet).map(Shape::size).max().unwrap_or(0);
        // The factor, the sums that it is solved for, and one of the results.
        let sides = DOUBLE * (n * n + largest);
        self.held(inlet) + self.crossed(inlet) + sides
    }

    /// Bytes on disk at its fullest: the residual streams before a block and within it, and what enters
    /// weights, at its widest.
    #[must_use]
    pub fn disk(&self) -> u64 {
        let widest = Inlet::ALL.map(|inlet| self.width(inlet)).into_iter().max();
        let each = 2 * self.config.hidden + widest.unwrap_or(0);
        (SINGLE * self.walks() * self.windows * self.time * each) as u64
    }

    /// Numbers of a token between an inlet and the next: what the weights give, and what is made of it.
    fn between(&self, passed: Option<Inlet>) -> usize {
        let rows = |role| self.config.shape(role).rows;
        match passed {
            None => self.config.hidden,
            // Once as they are, and once by heads, normed and turned.
            Some(Inlet::Attention) => 2 * rows(Role::Query) + 4 * rows(Role::Key),
            Some(Inlet::FeedForward) => 3 * rows(Role::Gate),
            Some(Inlet::Output | Inlet::Down) => 2 * self.config.hidden,
        }
    }

    /// Rows and columns of the weight that has most of them together.
    fn rows_and_columns(&self) -> usize {
        let shapes = Role::ALL.map(|role| self.config.shape(role));
        let sums = shapes.map(|shape| shape.rows + shape.cols);
        sums.into_iter().max().unwrap_or(0)
    }

    const fn walks(&self) -> usize {
        if self.aim.is_some() { 2 } else { 1 }
    }

    /// How many H's there are at an inlet.
    fn kinds(&self, inlet: Inlet) -> usize {
        1 + usize::from(self.attended && inlet == Inlet::Attention)
    }

    /// Bytes of all that is summed.
    fn sums(&self, inlet: Inlet) -> usize {
        let n = self.width(inlet);
        DOUBLE * n * (n + 1) / 2 * self.kinds(inlet) + self.crossed(inlet)
    }

    fn crossed(&self, inlet: Inlet) -> usize {
        DOUBLE * self.rows(inlet) * self.width(inlet) * self.kinds(inlet)
    }

    fn rows(&self, inlet: Inlet) -> usize {
        if self.aim == Some(Aim::Original) {
            target_rows(inlet, |role| self.config.shape(role))
        } else {
            0
        }
    }

    fn width(&self, inlet: Inlet) -> usize {
        self.config.shape(inlet.reader()).cols
    }

    fn shapes(&self, inlet: Inlet) -> impl Iterator<Item = Shape> {
        let shape = |role: &Role| self.config.shape(*role);
        inlet.readers().iter().map(shape)
    }

    /// Numbers of the weights that read at an inlet.
    fn weights(&self, inlet: Inlet) -> usize {
        self.shapes(inlet).map(Shape::size).sum()
    }
}

/// Bytes on disk of what is measured before anything is compressed.
#[must_use]
pub fn evidence(config: &Config, needs: Needs) -> u64 {
    let triangle = |n: usize| (SINGLE * n * (n + 1) / 2) as u64;
    let width = |inlet: Inlet| triangle(config.shape(inlet.reader()).cols);
    let activations: u64 = Inlet::ALL.map(width).iter().sum();
    let gradients: u64 = Role::ALL
        .map(|role| triangle(config.shape(role).rows))
        .iter()
        .sum();
    let of_block = u64::from(needs.activations) * activations
        + u64::from(needs.attended) * width(Inlet::Attention)
        + u64::from(needs.gradients) * gradients;
    config.layers as u64 * of_block
}

/// Bytes on disk of what is between the blocks while that is measured.
#[must_use]
pub fn between_blocks(config: &Config, tokens: usize, needs: Needs) -> u64 {
    // The way back needs what is between all blocks; without it what is before and after one.
    let streams = if needs.gradients {
        config.layers + 3
    } else if needs == Needs::NOTHING {
        0
    } else {
        2
    };
    (SINGLE * streams * tokens * config.hidden) as u64
}

/// The inlet before another in the same block.
fn before(inlet: Inlet) -> Option<Inlet> {
    let place = Inlet::ALL.iter().position(|other| *other == inlet)?;
    Inlet::ALL.get(place.checked_sub(1)?).copied()
}
