//! H of a layer input prepared for GPTQ: the inverse root, importance of inputs, and H itself for refinement.
//!
//! ```text
//! H ← Σ x xᵀ + damping · mean(diag H) · I, with H[j, j] = 1 where an input is always 0
//! H⁻¹ = Uᵀ U,   U upper triangular
//! feedback[j, k] = U[j, k] / U[j, j]     what an error of 1 at input j subtracts from weight k > j
//! importance[j] = 1 / U[j, j]²           the squared error that is left of it after that
//! ```
//!
//! One factorisation, 2/3·n³ operations, serves all weights that read the input. It is made in `f64` in the memory of
//! H; n² numbers of it are kept in `f32`, feedback above the diagonal and H below it. Only the feedback
//! near the diagonal is kept in `f64` as well: there weights are rounded one by one.
//!
//! With act-order, inputs are rounded in the order of falling H[j, j] rather than in their own: the errors of those
//! that matter most then have all others to make them good.
//!
//! # References
//!
//! Frantar et al., *GPTQ*, arXiv 2210.17323: damping and the Cholesky reformulation; act-order is that of its
//! published code (`--act-order`).

use std::ops::Range;

use compress_core::{Result, Symmetric};
use compress_numerics::linalg::{Indefinite, InverseRoot, Rows, Single};

/// The usual damping, as a fraction of the mean of H's diagonal: that of GPTQ's published code.
pub const DAMPING: f64 = 0.01;

/// Tries of factorising; after each failure ten times as much damping is added.
const ATTEMPTS: usize = 6;

/// The width of the band right of the diagonal in which feedback is kept in `f64`: the columns of GPTQ's panels.
pub(crate) const NEAR: usize = 256;

/// H = Σ x xᵀ of one layer input, n × n, factorised for rounding. It takes 4·n² + 2048·n bytes.
#[derive(Clone, Debug)]
pub struct Hessian {
    square: Vec<f32>, // n × n: feedback above the diagonal, in the order of rounding; H below it
    diagonal: Vec<f32>, // n, of H
    near: Vec<f64>,   // n × NEAR: feedback right of the diagonal
    pub(crate) importance: Vec<f64>, // n, as the inputs come
    pub(crate) order: Option<Vec<usize>>, // the input that is rounded first, second, …
}

impl Hessian {
    /// Factorises H for rounding, usually with [`DAMPING`]; with `act_order` inputs are rounded in the order of falling
    /// H[j, j].
    ///
    /// Where H is not positive definite in spite of its damping, it is damped more; fails where it never is, as with
    /// numbers that are not finite.
    pub fn new(mut h: Symmetric, damping: f64, act_order: bool) -> Result<Self> {
        let n = h.size();
        // An input that was 0 for all tokens has no row in H: any positive number makes it definite and couples it to
        // nothing.
        let dead = h.diagonal_mut().filter(|x| **x <= 0.0);
        dead.for_each(|x| *x = 1.0);
        let order = act_order.then(|| by_act_order(&h));
        let mean = h.trace() / n.max(1) as f64;
        let mut damped = permuted(h.plus_diagonal(damping * mean), order.as_deref());
        let mut attempt = 1;
        let root = loop {
            match InverseRoot::new(damped) {
                Err(Indefinite(same)) if attempt < ATTEMPTS => {
                    // Where no damping was asked for, a multiple of 0 would not help.
                    let more = 10_f64.powi(attempt as i32) * damping.max(1e-6);
                    damped = same.plus_diagonal(more * mean);
                    attempt += 1;
                }
                outcome => break outcome.map_err(|indefinite| indefinite.error())?,
            }
        };
        Ok(Self::of(root, order))
    }

    /// Copies the inverse root to the `f32` square and the `f64` band, row by row, while its own memory is let go.
    fn of(root: InverseRoot, order: Option<Vec<usize>>) -> Self {
        let n = root.size();
        let input = |place: usize| order.as_ref().map_or(place, |order| order[place]);
        let (mut diagonal, mut importance) = (vec![0.0; n], vec![0.0; n]);
        let pivots = root.root_diagonal();
        for (place, (x, pivot)) in root.diagonal.iter().zip(&pivots).enumerate() {
            diagonal[input(place)] = *x as f32;
            importance[input(place)] = pivot.powi(-2);
        }
        let (mut square, mut near) = (vec![0.0; n * n], vec![0.0; n * NEAR]);
        root.into_rows(|i, row| {
            let (of_h, of_root) = row.split_at(i);
            // The rows come in the order of rounding; H is kept in the order of inputs, as refinement wants it.
            if order.is_none() {
                let row = square[i * n..].iter_mut().zip(of_h);
                row.for_each(|(x, y)| *x = *y as f32);
            } else {
                for (j, x) in of_h.iter().enumerate() {
                    let (a, b) = (input(i), input(j));
                    square[a.max(b) * n + a.min(b)] = *x as f32;
                }
            }
            let feedback = || of_root.iter().skip(1).map(|x| x / pivots[i]);
            let row = square[i * n + i + 1..].iter_mut().zip(feedback());
            row.for_each(|(x, y)| *x = y as f32);
            let row = near[i * NEAR..][..NEAR].iter_mut().zip(feedback());
            row.for_each(|(x, y)| *x = y);
        });
        Self {
            square,
            diagonal,
            near,
            importance,
            order,
        }
    }

    /// n, the number of inputs.
    #[must_use]
    pub fn size(&self) -> usize {
        self.importance.len()
    }

    /// Feedback, above the diagonal, n × n in the order of rounding.
    pub(crate) fn feedback(&self) -> Rows<'_, f32> {
        Rows::full(&self.square, self.size())
    }

    /// The same in `f64`, up to [`NEAR`] numbers right of the diagonal.
    pub(crate) fn feedback_near(&self) -> Rows<'_, f64> {
        Rows::right_of_diagonal(&self.near, NEAR)
    }

    /// `residual · H[:, columns]`, m × c, from the lower triangle: minus half the gradient of tr(R H Rᵀ) by the values
    /// of Q in these columns.
    pub(crate) fn slope(&self, residual: &Single, columns: Range<usize>) -> Single {
        let (n, width, h) = (self.size(), columns.len(), self.feedback());
        let mut slope = Single::zeros(residual.rows(), width);
        let mut add = |inner: Range<usize>, part| {
            slope.add_product(0..width, 1.0, (residual, inner), part);
        };
        let (before, after) = (0..columns.start, columns.end..n);
        let above = h.block(columns.clone(), before.clone());
        add(before, above.transposed());
        let corner = self.corner(columns.clone());
        let within = Rows::full(&corner, width).block(0..width, 0..width);
        add(columns.clone(), within.transposed());
        let below = h.columns(after.clone(), columns);
        add(after, below.block());
        slope
    }

    /// `H[columns, columns]`, c × c, row after row, with both triangles.
    pub(crate) fn corner(&self, columns: Range<usize>) -> Vec<f32> {
        let (h, width) = (self.feedback(), columns.len());
        let mut corner = vec![0.0; width * width];
        for i in 0..width {
            for j in 0..i {
                let x = h.at(columns.start + i, columns.start + j);
                corner[i * width + j] = x;
                corner[j * width + i] = x;
            }
            corner[i * width + i] = self.diagonal[columns.start + i];
        }
        corner
    }
}

/// The inputs in order of falling H[j, j]; equal ones in their own order, so that the result is the same everywhere.
fn by_act_order(h: &Symmetric) -> Vec<usize> {
    let diagonal: Vec<f64> = h.diagonal().collect();
    let mut order: Vec<usize> = (0..diagonal.len()).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    order
}

/// H with rows and columns in the order of rounding; unchanged without one.
fn permuted(h: Symmetric, order: Option<&[usize]>) -> Symmetric {
    let Some(order) = order else {
        return h;
    };
    let mut turned = Symmetric::zeros(h.size());
    for (row, &i) in turned.rows_mut().zip(order) {
        let pairs = row.iter_mut().zip(order);
        pairs.for_each(|(x, &j)| *x = h.at(i, j));
    }
    turned
}
