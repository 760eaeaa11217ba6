//! Predicted costs of gathering evidence: peak memory, and disk, in bytes.
//!
//! Counted from shapes alone, before any work: weights in `f32`, activations of the windows side by side, sums in
//! `f64`. Without the memory of the program itself, and of the allocator.

use compress_checkpoint::Config;
use compress_core::{InputKind, Needs, Role, Shape};
use compress_models::slices;

use crate::{RefitTarget, host::side_by_side, measured::target_rows};

/// The shapes and settings that decide a pass's memory and disk.
#[derive(Clone, Copy)]
pub struct PassFootprint<'a> {
    /// The network.
    pub config: &'a Config,
    /// Windows of the calibration text.
    pub windows: usize,
    /// Tokens of each window.
    pub time: usize,
    /// The refit target of weights behind compressed blocks; none where only the original is run.
    pub refit: Option<RefitTarget>,
    /// Whether Σ a x xᵀ, weighted by attention mass, is summed as well.
    pub attention_weighted: bool,
}

/// Bytes of an `f32`.
const SINGLE: usize = 4;

/// Bytes of an `f64`.
const DOUBLE: usize = 8;

impl PassFootprint<'_> {
    /// Peak bytes of memory of a [`Sequential`](crate::Sequential) pass while it measures one layer input.
    #[must_use]
    pub fn measuring(&self, kind: InputKind) -> usize {
        let (side, threads) = (self.side(), self.threads());
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

    /// Peak bytes of memory of one-shot calibration, which measures all layer inputs of a block at once; with the
    /// backward pass where gradients are needed, in as many rounds as `room`, in bytes, makes necessary.
    #[must_use]
    pub fn passing(&self, needs: Needs, room: usize) -> usize {
        // One pass follows the other: the larger one counts.
        let forward = self.forward() + usize::from(needs.lens) * self.lens();
        if needs.gradients {
            let rounds = self.backward_rounds(room);
            let back = rounds.iter().map(|roles| self.backward(roles)).max();
            forward.max(back.unwrap_or(0)).max(self.loss())
        } else {
            forward
        }
    }

    /// The weights whose G are summed in each round of the backward pass through a block: all of them in one round
    /// where that fits in `room`, in bytes.
    ///
    /// Else in three. G has out × out numbers, so that gate and up, the widest outputs, need the most: each gets a
    /// round of its own. Each round computes the block's gradients anew.
    #[must_use]
    pub fn backward_rounds(&self, room: usize) -> &'static [&'static [Role]] {
        const APART: [&[Role]; 3] = [
            &[
                Role::Query,
                Role::Key,
                Role::Value,
                Role::Output,
                Role::Down,
            ],
            &[Role::Gate],
            &[Role::Up],
        ];
        if self.backward(&Role::ALL) <= room {
            &[&Role::ALL]
        } else {
            &APART
        }
    }

    /// Peak bytes of the forward pass.
    fn forward(&self) -> usize {
        let inputs = self.inputs();
        let triangles = InputKind::ALL.map(|kind| triangle(self.width(kind)));
        let of_windows = self.on_each(self.met() + inputs) + self.side() * self.time * inputs;
        triangles.iter().sum::<usize>() + SINGLE * (self.block() + of_windows)
    }

    /// Bytes of the logit lens: on each thread the logits of a slice of positions, before and behind the block, as tensors
    /// and as numbers, and both residual streams after the norm.
    fn lens(&self) -> usize {
        let threads = self.threads();
        let logits = self.logits();
        SINGLE * threads * (4 * logits + 4 * self.time * self.config.hidden)
    }

    /// Logits of a slice of positions.
    fn logits(&self) -> usize {
        let vocabulary = self.config.vocabulary;
        let positions = slices(self.time, vocabulary).map(|slice| slice.len());
        positions.max().unwrap_or(0) * vocabulary
    }

    /// Peak bytes of a round of the backward pass that sums G of some roles.
    fn backward(&self, roles: &[Role]) -> usize {
        let shapes = || roles.iter().map(|&role| self.config.shape(role));
        let triangles: usize = shapes().map(|shape| triangle(shape.rows)).sum();
        let outputs: usize = shapes().map(|shape| shape.rows).sum();
        // The gradient by a weight, and its factors as matrices, on each thread.
        let largest = shapes().map(Shape::size).max().unwrap_or(0);
        let factors = shapes().map(|shape| shape.rows + shape.cols).max();
        let squared = self.threads() * largest + self.on_each(factors.unwrap_or(0));
        // Beside the activations the gradients by all outputs, and those that are summed as numbers of their own.
        let met = self.met() + self.outputs() + outputs;
        let of_windows = self.on_each(met) + self.side() * self.time * outputs;
        triangles + SINGLE * (self.block() + of_windows + squared)
    }

    /// Numbers of a window's activations, per token: a thread holds all of them. The rows to be summed are kept of all
    /// windows side by side.
    fn met(&self) -> usize {
        self.inputs() + self.outputs() + 3 * self.config.hidden
    }

    /// Output features of all weights of a block.
    fn outputs(&self) -> usize {
        let rows = Role::ALL.map(|role| self.config.shape(role).rows);
        rows.iter().sum()
    }

    /// Channels of all layer inputs of a block.
    fn inputs(&self) -> usize {
        InputKind::ALL.map(|kind| self.width(kind)).iter().sum()
    }

    /// Numbers in the weights of a block.
    fn block(&self) -> usize {
        InputKind::ALL.map(|kind| self.weights(kind)).iter().sum()
    }

    /// Windows side by side.
    fn side(&self) -> usize {
        side_by_side(self.time).min(self.windows)
    }

    /// Threads that have a window.
    fn threads(&self) -> usize {
        rayon::current_num_threads().min(self.side())
    }

    /// So many numbers for each token of the windows that threads have.
    fn on_each(&self, numbers: usize) -> usize {
        self.threads() * self.time * numbers
    }

    /// Peak bytes between the two passes: the ends of the network, and on each thread the logits of a slice of
    /// positions.
    fn loss(&self) -> usize {
        let ends = self.config.sites().filter(|site| site.role().is_none());
        let ends: usize = ends.map(|site| self.config.weight_shape(site).size()).sum();
        // Turned into their gradient in place; only while a tensor becomes numbers there are two of them, which two
        // threads seldom do at the same time.
        let logits = self.logits();
        let streams = 6 * self.time * self.config.hidden;
        let threads = rayon::current_num_threads().min(self.windows);
        SINGLE * (ends + logits + threads * (logits + streams))
    }

    /// Bytes that stay while the weights at a layer input are compressed: H, the weights, and their refit targets.
    #[must_use]
    pub fn held(&self, kind: InputKind) -> usize {
        let n = self.width(kind);
        let targets = usize::from(self.refit == Some(RefitTarget::Original)) * self.weights(kind);
        let h = triangle(n) * self.kinds(kind);
        h + SINGLE * (self.weights(kind) + targets)
    }

    /// Peak bytes while the refit targets of those weights are solved for; 0 where there are none.
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

    /// Peak bytes on disk of a sequential pass: residual streams before and within a block, and the layer input at
    /// its widest, of all windows.
    #[must_use]
    pub fn disk(&self) -> u64 {
        let widest = InputKind::ALL
            .map(|kind| self.width(kind))
            .into_iter()
            .max();
        let each = 2 * self.config.hidden + widest.unwrap_or(0);
        (SINGLE * self.passes() * self.windows * self.time * each) as u64
    }

    /// Numbers per token that exist between one layer input and the next: outputs of weights, and what follows from
    /// them.
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

    /// Passes side by side: the original's, and under refit that of the compressed model.
    const fn passes(&self) -> usize {
        if self.refit.is_some() { 2 } else { 1 }
    }

    /// How many H there are at a layer input.
    fn kinds(&self, kind: InputKind) -> usize {
        1 + usize::from(self.attention_weighted && kind == InputKind::Attention)
    }

    /// Bytes of all sums at a layer input.
    fn sums(&self, kind: InputKind) -> usize {
        let n = self.width(kind);
        triangle(n) * self.kinds(kind) + self.crossed(kind)
    }

    /// Bytes of T or N, the cross sums that refit targets need.
    fn crossed(&self, kind: InputKind) -> usize {
        DOUBLE * self.rows(kind) * self.width(kind) * self.kinds(kind)
    }

    /// Rows of the cross sums; 0 without refit to the original.
    fn rows(&self, kind: InputKind) -> usize {
        if self.refit == Some(RefitTarget::Original) {
            target_rows(kind, |role| self.config.shape(role))
        } else {
            0
        }
    }

    /// Channels of a layer input.
    fn width(&self, kind: InputKind) -> usize {
        self.config.shape(kind.reader()).cols
    }

    /// Shapes of the weights that read a layer input.
    fn shapes(&self, kind: InputKind) -> impl Iterator<Item = Shape> {
        let shape = |role: &Role| self.config.shape(*role);
        kind.readers().iter().map(shape)
    }

    /// Numbers in the weights that read a layer input.
    fn weights(&self, kind: InputKind) -> usize {
        self.shapes(kind).map(Shape::size).sum()
    }
}

/// Bytes of the lower triangle of a sum, n × n.
const fn triangle(n: usize) -> usize {
    DOUBLE * n * (n + 1) / 2
}

/// Bytes on disk of one-shot evidence for a whole model; triangles are stored in `f32`.
#[must_use]
pub fn evidence(config: &Config, needs: Needs) -> u64 {
    let single = |n: usize| (SINGLE * n * (n + 1) / 2) as u64;
    let width = |kind: InputKind| single(config.shape(kind.reader()).cols);
    let activations: u64 = InputKind::ALL.map(width).iter().sum();
    let gradients: u64 = Role::ALL
        .map(|role| single(config.shape(role).rows))
        .iter()
        .sum();
    let of_block = u64::from(needs.activations) * activations
        + u64::from(needs.attention_weighted) * width(InputKind::Attention)
        + u64::from(needs.gradients) * gradients;
    config.layers as u64 * of_block
}

/// Peak bytes on disk of residual streams and their gradients while that is measured.
#[must_use]
pub fn between_blocks(config: &Config, tokens: usize, needs: Needs) -> u64 {
    // The backward pass reads the streams before every block, and has gradients before and behind one; without it
    // there are the streams before and behind one block.
    let inputs = if needs.gradients {
        config.layers + 3
    } else if needs == Needs::NOTHING {
        0
    } else {
        2
    };
    (SINGLE * inputs * tokens * config.hidden) as u64
}

/// The layer input before another in the same block; none before the first.
fn before(kind: InputKind) -> Option<InputKind> {
    let place = InputKind::ALL.iter().position(|other| *other == kind)?;
    InputKind::ALL.get(place.checked_sub(1)?).copied()
}
