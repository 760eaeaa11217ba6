//! Sums over one layer input, and the refit targets that follow from them.
//!
//! ```text
//! H = Σ z zᵀ                     z: what enters the weights of the model as far as it is compressed
//! W* = argmin_V Σ ‖t − V z‖² + ε‖V − W‖² = (T + ε W)(H + ε I)⁻¹,   T = Σ t zᵀ
//! ```
//!
//! z is the layer input in the model as far as it is compressed, x that in the original, t the output to be given. T
//! is m × n for each weight. Where one weight reads z, T is summed itself, at m numbers per channel. Where several
//! do, one sum serves all of them: N = Σ x zᵀ, n × n, and T = W N. Sums are in `f64`.

use std::collections::BTreeMap;

use compress_core::{InputKind, LayerInput, Matrix, Role, Shape, Site, Symmetric, TokenWeights};
use compress_numerics::linalg::{Cholesky, Double};
use rayon::prelude::*;

use crate::accumulate::{add_crosses, add_grams, weight};

/// ε, as a fraction of the mean of the diagonal of H: pulls W* towards W where the text says little.
const DAMPING: f64 = 0.1;

/// The sums over one layer input, for the weights that read it.
pub struct Measured {
    /// The layer input.
    pub input: LayerInput,
    plain: Sums,
    /// The same with tokens weighted by attention mass; at the layer input of attention, where that is asked for.
    weighted: Option<Sums>,
}

/// The rows of one window at a layer input, to be summed.
pub struct Seen {
    /// z, the input in the compressed model: t × n.
    pub z: Vec<f32>,
    /// The outputs that the weights should give, t × m, where one weight reads z; the original's input x, t × n, where
    /// several do; empty where they are to give what they give for z.
    pub target: Vec<f32>,
    /// The attention mass of each token, t; where tokens are weighted.
    pub attention: Option<Vec<f32>>,
}

/// Sums over all tokens.
struct Sums {
    /// H, n × n.
    activations: Symmetric,
    /// T or N, row-major; empty where the weights need no refit target.
    crossed: Vec<f64>,
    /// Rows of T or N; 0 where it is empty.
    rows: usize,
}

impl Sums {
    /// Sums of nothing.
    fn new(width: usize, rows: usize) -> Self {
        Self {
            activations: Symmetric::zeros(width),
            crossed: vec![0.0; rows * width],
            rows,
        }
    }

    /// Adds some windows to both sums.
    fn add(&mut self, z: Vec<&[f32]>, targets: &[&[f32]]) {
        let width = self.activations.size();
        if self.rows > 0 {
            add_crosses(&mut self.crossed, (targets, self.rows), (&z, width));
        }
        add_grams(std::slice::from_mut(&mut self.activations), &[z]);
    }
}

impl Measured {
    /// Empty sums at a layer input of `width` channels, with cross sums of `rows` rows; `weighted` says whether a
    /// second set weighs tokens by attention mass.
    pub(crate) fn new(input: LayerInput, width: usize, rows: usize, weighted: bool) -> Self {
        Self {
            input,
            plain: Sums::new(width, rows),
            weighted: weighted.then(|| Sums::new(width, rows)),
        }
    }

    /// Adds some windows to all sums.
    pub(crate) fn add(&mut self, windows: &[Seen]) {
        if let Some(sums) = &mut self.weighted {
            // With √a on both sides, outer products carry the weight a.
            let rooted = |rows: fn(&Seen) -> &Vec<f32>| -> Vec<Vec<f32>> {
                let of = |seen: &Seen| {
                    let mut rows = rows(seen).clone();
                    weight(&mut rows, seen.attention.as_deref().unwrap_or_default());
                    rows
                };
                windows.par_iter().map(of).collect()
            };
            let (z, targets) = (rooted(|seen| &seen.z), rooted(|seen| &seen.target));
            sums.add(slices(&z), &slices(&targets));
        }
        let z = windows.iter().map(|seen| seen.z.as_slice()).collect();
        let targets: Vec<_> = windows.iter().map(|seen| seen.target.as_slice()).collect();
        self.plain.add(z, &targets);
    }

    /// H = Σ z zᵀ, n × n, over all tokens of the text.
    #[must_use]
    pub const fn activations(&self) -> &Symmetric {
        &self.plain.activations
    }

    /// Σ a z zᵀ, with a the attention mass; none where that was not asked for, or at other layer inputs than that of
    /// attention.
    #[must_use]
    pub fn attention_weighted(&self) -> Option<&Symmetric> {
        self.weighted.as_ref().map(|sums| &sums.activations)
    }

    /// The refit targets W* of the weights that read this input, from the original weights W and the way in which
    /// each site's tokens are weighted. Weights that need no target come back as they are.
    ///
    /// One Cholesky factorisation of H + ε I per kind of weighting, and two triangular solves per weight, in `f64`.
    /// Frees the cross sums. Fails where shapes do not fit.
    pub fn targets(
        &mut self,
        weights: Vec<(Site, TokenWeights, Matrix)>,
    ) -> compress_core::Result<BTreeMap<Site, Matrix>> {
        let mut targets = BTreeMap::new();
        let (alike, weighted): (Vec<_>, Vec<_>) = weights
            .into_iter()
            .partition(|(site, tokens, _)| !tokens.are_weighted(*site));
        let one = one_reader(self.input.kind);
        if let Some(sums) = &mut self.weighted {
            targets.extend(sums.targets(weighted, one)?);
        } else {
            targets.extend(self.plain.solve(weighted, one)?);
        }
        targets.extend(self.plain.targets(alike, one)?);
        Ok(targets)
    }
}

impl Sums {
    /// The same from these sums, whose cross sums are then freed.
    fn targets(
        &mut self,
        weights: Vec<(Site, TokenWeights, Matrix)>,
        one: bool,
    ) -> compress_core::Result<Vec<(Site, Matrix)>> {
        let targets = self.solve(weights, one);
        self.crossed = Vec::new();
        targets
    }

    /// W* of each weight from these sums; W itself where there are no cross sums.
    fn solve(
        &self,
        weights: Vec<(Site, TokenWeights, Matrix)>,
        one: bool,
    ) -> compress_core::Result<Vec<(Site, Matrix)>> {
        if self.rows == 0 || weights.is_empty() {
            let same = weights.into_iter().map(|(site, _, weight)| (site, weight));
            return Ok(same.collect());
        }
        let n = self.activations.size();
        // The smallest positive number keeps H + ε I definite where no token was seen.
        let epsilon = DAMPING * self.activations.trace() / n.max(1) as f64 + f64::MIN_POSITIVE;
        let damped = self.activations.clone().plus_diagonal(epsilon);
        let factor = Cholesky::new(damped)?;
        let target = |(site, _, weight): (Site, TokenWeights, Matrix)| {
            // T + ε W, row-major; solving by rows gives W* since H is symmetric.
            let mut sides = if one {
                self.crossed.clone()
            } else {
                let shared = Double::new(n, n, &self.crossed)?;
                Double::from(&weight).times(&shared)?.row_major()
            };
            let places = sides.iter_mut().zip(weight.data());
            places.for_each(|(t, w)| *t += epsilon * f64::from(*w));
            factor.solve(&mut sides);
            let numbers = sides.iter().map(|&x| x as f32).collect();
            Ok((site, Matrix::new(weight.rows(), n, numbers)?))
        };
        weights.into_iter().map(target).collect()
    }
}

/// Whether one weight alone reads a layer input: then T is summed, not N.
pub const fn one_reader(kind: InputKind) -> bool {
    kind.readers().len() == 1
}

/// Rows of the cross sums at a layer input: outputs of the one weight that reads it, or channels of the shared input.
pub fn target_rows(kind: InputKind, shape: impl Fn(Role) -> Shape) -> usize {
    let Shape { rows, cols } = shape(kind.reader());
    if one_reader(kind) { rows } else { cols }
}

/// Borrowed rows.
fn slices(windows: &[Vec<f32>]) -> Vec<&[f32]> {
    windows.iter().map(Vec::as_slice).collect()
}
