//! What rounding must know of a layer input: how an error at one input is best made good at later ones.
//!
//! ```text
//! H ← Σ x xᵀ, 1 where an input was never used, plus damping · mean(diag H) on the diagonal
//! H⁻¹ = Uᵀ U,   U upper triangular
//! feedback[j, k] = U[j, k] / U[j, j]     what an error of 1 at input j takes from weight k > j
//! importance[j] = 1 / U[j, j]²           what it then costs
//! ```
//!
//! One factorisation serves all weights that read the input. It is made in `f64` in the memory of H; what is
//! kept of it are n² numbers in `f32`, feedback above the diagonal and H below it. Only what of the feedback
//! is near the diagonal is kept in `f64` as well: there weights are rounded one by one.
//!
//! With act-order, inputs are rounded in order of falling H[j, j] rather than as they come, so that those
//! that matter most are made good by all others.

use std::ops::Range;

use compress_core::{Result, Symmetric};
use compress_numerics::linalg::{Indefinite, InverseRoot, Rows, Single};

/// What is added to the diagonal, of its mean, where nobody says otherwise.
pub const DAMPING: f64 = 0.01;

/// How often the damping is made tenfold where H is singular all the same.
const ATTEMPTS: usize = 6;

/// How far from the diagonal feedback is kept in `f64`.
pub(crate) const NEAR: usize = 256;

/// A prepared H = Σ x xᵀ.
#[derive(Clone, Debug)]
pub struct Hessian {
    square: Vec<f32>, // n × n: feedback above the diagonal, in the order of rounding; H below it
    diagonal: Vec<f32>, // n, of H
    near: Vec<f64>,   // n × NEAR: feedback right of the diagonal
    pub(crate) importance: Vec<f64>, // n, as the inputs come
    pub(crate) order: Option<Vec<usize>>, // the input that is rounded first, second, …
}

impl Hessian {
    /// Prepares H for rounding, usually with [`DAMPING`]; `act_order` is whether inputs are to be rounded in
    /// order of falling H[j, j].
    ///
    /// Where H is singular in spite of its damping, it is damped more.
    pub fn new(mut h: Symmetric, damping: f64, act_order: bool) -> Result<Self> {
        let n = h.size();
        let dead = h.diagonal_mut().filter(|x| **x <= 0.0);
        dead.for_each(|x| *x = 1.0);
        let order = act_order.then(|| by_act_order(&h));
        let mean = h.trace() / n.max(1) as f64;
        let mut damped = permuted(h.plus_diagonal(damping * mean), order.as_deref());
        let mut attempt = 1;
        let root = loop {
            match InverseRoot::new(damped) {
                Err(Indefinite(same)) if attempt < ATTEMPTS => {
                    let more = 10_f64.powi(attempt as i32) * damping.max(1e-6);
                    damped = same.plus_diagonal(more * mean);
                    attempt += 1;
                }
                outcome => break outcome.map_err(|indefinite| indefinite.error())?,
            }
        };
        Ok(Self::of(root, order))
    }

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

    /// n, how many inputs there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.importance.len()
    }

    /// Feedback, above the diagonal, in the order of rounding.
    pub(crate) fn feedback(&self) -> Rows<'_, f32> {
        Rows::full(&self.square, self.size())
    }

    /// The same up to [`NEAR`] numbers from the diagonal.
    pub(crate) fn feedback_near(&self) -> Rows<'_, f64> {
        Rows::right_of_diagonal(&self.near, NEAR)
    }

    /// `residual · H[:, columns]`, m × c.
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

    /// `H[columns, columns]`, row after row.
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

/// The inputs in order of falling H[j, j].
fn by_act_order(h: &Symmetric) -> Vec<usize> {
    let diagonal: Vec<f64> = h.diagonal().collect();
    let mut order: Vec<usize> = (0..diagonal.len()).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    order
}

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
