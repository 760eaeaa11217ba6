//! Predicted cost of a pass: peak memory, and disk.

use compress_checkpoint::Config;
use compress_core::{InputKind, Needs, Role, Shape};

use crate::{RefitTarget, host::side_by_side, measured::target_rows};

/// A pass to be, by all that decides what it takes.
#[derive(Clone, Copy)]
pub struct PassFootprint<'a> {
    /// The network.
    pub config: &'a Config,
    /// How many windows.
    pub windows: usize,
    /// Tokens of each.
    pub time: usize,
    /// The refit target; none where only the original is run.
    pub refit: Option<RefitTarget>,
    /// Whether tokens are weighted by the attention they get, as well.
    pub attention_weighted: bool,
}

/// Bytes of an `f32`.
const SINGLE: usize = 4;

/// Bytes of an `f64`.
const DOUBLE: usize = 8;

impl PassFootprint<'_> {
    /// Bytes of memory while what enters at a layer input is measured.
    #[must_use]
    pub fn measuring(&self, kind: InputKind) -> usize {
        let side = side_by_side(self.time).min(self.windows);
        let threads = rayon::current_num_threads().min(side);
        let passed = before(kind);
        let weights = self.weights(kind) + self.passes() * passed.map_or(0, |p| self.weights(p));
        let n = self.width(kind);
        let seen = side * self.time * (n + self.rows(kind)) * self.kinds(kind);
        // Of each pass what goes in and what comes out, which is written as bytes; of one what is between.
        let hidden = self.config.hidden;
        let old = passed.map_or(hidden, |p| self.width(p));
        let ends = self.passes() * (2 * hidden + n) + hidden + 2 * old.max(n);
        let in_flight = threads * self.time * (ends + self.between(passed));
        SINGLE * (weights + seen + in_flight) + self.sums(kind)
    }

    /// Bytes of memory while a pass forward, and with gradients one back, measures all inputs of a block at once.
    #[must_use]
    pub fn passing(&self, gradients: bool) -> usize {
        let side = side_by_side(self.time).min(self.windows);
        let block: usize = InputKind::ALL.map(|kind| self.weights(kind)).iter().sum();
        let shapes = || {
            InputKind::ALL
                .into_iter()
                .flat_map(|kind| self.shapes(kind))
        };
        let (inputs, outputs): (usize, usize) = (
            InputKind::ALL.map(|kind| self.width(kind)).iter().sum(),
            shapes().map(|shape| shape.rows).sum(),
        );
        let triangle = |n: usize| DOUBLE * n * (n + 1) / 2;
        let activations: usize = InputKind::ALL
            .map(|kind| triangle(self.width(kind)))
            .iter()
            .sum();
        let by_outputs: usize = shapes().map(|shape| triangle(shape.rows)).sum();
        let hidden = self.config.hidden;
        let threads = rayon::current_num_threads().min(side);
        // What is met on the way of a window on its core, and on the backward pass its gradients as well; what is
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

    /// Bytes of memory that stay while the weights at a layer input are compressed: what was measured, and what
    /// the weights are to be.
    #[must_use]
    pub fn held(&self, kind: InputKind) -> usize {
        let n = self.width(kind);
        let targets = usize::from(self.refit == Some(RefitTarget::Original)) * self.weights(kind);
        let h = DOUBLE * n * (n + 1) / 2 * self.kinds(kind);
        h + SINGLE * (self.weights(kind) + targets)
    }

    /// Bytes of memory while what those weights are to be is solved for.
    #[must_use]
    pub fn solving(&self, kind: InputKind) -> usize {
        if self.refit != Some(RefitTarget::Original) {
            return 0;
        }
        let n = self.width(kind);
        let largest = self.shapes(kind).map(Shape::size).max().unwrap_or(0);
        // The factor, the sums that it is solved for, and one of the results.
        let sides = DOUBLE * (n * n + largest);
        self.held(kind) + self.crossed(kind) + sides
    }

    /// Bytes on disk at its fullest: the residual streams before a block and within it, and what enters
    /// weights, at its widest.
    #[must_use]
    pub fn disk(&self) -> u64 {
        let widest = InputKind::ALL
            .map(|kind| self.width(kind))
            .into_iter()
            .max();
        let each = 2 * self.config.hidden + widest.unwrap_or(0);
        (SINGLE * self.passes() * self.windows * self.time * each) as u64
    }

    /// Numbers of a token between an input and the next: what the weights give, and what is made of it.
    fn between(&self, passed: Option<InputKind>) -> usize {
        let rows = |role| self.config.shape(role).rows;
        match passed {
            None => self.config.hidden,
            // Once as they are, and once by heads, normed and turned.
            Some(InputKind::Attention) => 2 * rows(Role::Query) + 4 * rows(Role::Key),
            Some(InputKind::FeedForward) => 3 * rows(Role::Gate),
            Some(InputKind::Output | InputKind::Down) => 2 * self.config.hidden,
        }
    }

    /// Rows and columns of the weight that has most of them together.
    fn rows_and_columns(&self) -> usize {
        let shapes = Role::ALL.map(|role| self.config.shape(role));
        let sums = shapes.map(|shape| shape.rows + shape.cols);
        sums.into_iter().max().unwrap_or(0)
    }

    const fn passes(&self) -> usize {
        if self.refit.is_some() { 2 } else { 1 }
    }

    /// How many H's there are at a layer input.
    fn kinds(&self, kind: InputKind) -> usize {
        1 + usize::from(self.attention_weighted && kind == InputKind::Attention)
    }

    /// Bytes of all that is summed.
    fn sums(&self, kind: InputKind) -> usize {
        let n = self.width(kind);
        DOUBLE * n * (n + 1) / 2 * self.kinds(kind) + self.crossed(kind)
    }

    fn crossed(&self, kind: InputKind) -> usize {
        DOUBLE * self.rows(kind) * self.width(kind) * self.kinds(kind)
    }

    fn rows(&self, kind: InputKind) -> usize {
        if self.refit == Some(RefitTarget::Original) {
            target_rows(kind, |role| self.config.shape(role))
        } else {
            0
        }
    }

    fn width(&self, kind: InputKind) -> usize {
        self.config.shape(kind.reader()).cols
    }

    fn shapes(&self, kind: InputKind) -> impl Iterator<Item = Shape> {
        let shape = |role: &Role| self.config.shape(*role);
        kind.readers().iter().map(shape)
    }

    /// Numbers of the weights that read at a layer input.
    fn weights(&self, kind: InputKind) -> usize {
        self.shapes(kind).map(Shape::size).sum()
    }
}

/// Bytes on disk of what is measured before anything is compressed.
#[must_use]
pub fn evidence(config: &Config, needs: Needs) -> u64 {
    let triangle = |n: usize| (SINGLE * n * (n + 1) / 2) as u64;
    let width = |kind: InputKind| triangle(config.shape(kind.reader()).cols);
    let activations: u64 = InputKind::ALL.map(width).iter().sum();
    let gradients: u64 = Role::ALL
        .map(|role| triangle(config.shape(role).rows))
        .iter()
        .sum();
    let of_block = u64::from(needs.activations) * activations
        + u64::from(needs.attention_weighted) * width(InputKind::Attention)
        + u64::from(needs.gradients) * gradients;
    config.layers as u64 * of_block
}

/// Bytes on disk of what is between the blocks while that is measured.
#[must_use]
pub fn between_blocks(config: &Config, tokens: usize, needs: Needs) -> u64 {
    // The backward pass needs what is between all blocks; without it what is before and after one.
    let inputs = if needs.gradients {
        config.layers + 3
    } else if needs == Needs::NOTHING {
        0
    } else {
        2
    };
    (SINGLE * inputs * tokens * config.hidden) as u64
}

/// The input before another in the same block.
fn before(kind: InputKind) -> Option<InputKind> {
    let place = InputKind::ALL.iter().position(|other| *other == kind)?;
    InputKind::ALL.get(place.checked_sub(1)?).copied()
}
