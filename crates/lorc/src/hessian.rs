//! What rounding must know of a stream: how an error at one input is best made good at later ones.
//!
//! ```text
//! H ← Σ x xᵀ, 1 where an input was never used, plus damping · mean(diag H) on the diagonal
//! H⁻¹ = Uᵀ U,   U upper triangular
//! feedback[j, k] = U[j, k] / U[j, j]     what an error of 1 at input j takes from weight k > j
//! importance[j] = 1 / U[j, j]²           what it then costs
//! ```
//!
//! One factorisation serves all weights that read the stream.
//!
//! With `order`, inputs are rounded in order of falling H[j, j] rather than as they come, so that those
//! that matter most are made good by all others.

use std::borrow::Cow;

use compress_core::{Result, Symmetric, linalg::Double};

/// What is added to the diagonal, of its mean, where nobody says otherwise.
pub const DAMPING: f64 = 0.01;

/// How often the damping is made tenfold where H is singular all the same.
const ATTEMPTS: usize = 6;

/// A prepared H = Σ x xᵀ.
#[derive(Clone, Debug)]
pub struct Hessian {
    pub(crate) damped: Double,            // H: n × n
    pub(crate) feedback: Double,          // n × n, unit upper triangular, in the order of rounding
    pub(crate) importance: Vec<f64>,      // n, as the inputs come
    pub(crate) order: Option<Vec<usize>>, // the input that is rounded first, second, …
}

impl Hessian {
    /// Prepares H for rounding, usually with [`DAMPING`]; `order` is whether inputs are to be rounded in
    /// order of falling H[j, j].
    ///
    /// Where H is singular in spite of its damping, it is damped more.
    pub fn new(h: &Symmetric, damping: f64, order: bool) -> Result<Self> {
        let mut alive = h.clone();
        let n = alive.size();
        alive
            .diagonal_mut()
            .filter(|x| **x <= 0.0)
            .for_each(|x| *x = 1.0);
        let order = order.then(|| falling(&alive));
        let mean = alive.trace() / n.max(1) as f64;
        let mut damped = alive.plus_diagonal(damping * mean);
        let mut attempt = 1;
        let root = loop {
            match Double::from(&*rearranged(&damped, order.as_deref())).root_of_inverse() {
                Err(_) if attempt < ATTEMPTS => {
                    let more = 10_f64.powi(attempt as i32) * damping.max(1e-6);
                    damped = damped.plus_diagonal(more * mean);
                    attempt += 1;
                }
                outcome => break outcome?,
            }
        };
        let squares: Vec<f64> = (0..n).map(|j| root.column(j)[j].powi(-2)).collect();
        let inverses: Vec<f64> = squares.iter().map(|x| x.sqrt()).collect();
        let mut importance = squares.clone();
        for (place, input) in order.iter().flatten().enumerate() {
            importance[*input] = squares[place];
        }
        Ok(Self {
            damped: Double::from(&damped),
            feedback: root.scaled_rows(&inverses),
            importance,
            order,
        })
    }

    /// n, how many inputs there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.importance.len()
    }
}

/// The inputs in order of falling H[j, j].
fn falling(h: &Symmetric) -> Vec<usize> {
    let diagonal: Vec<f64> = h.diagonal().collect();
    let mut order: Vec<usize> = (0..diagonal.len()).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    order
}

fn rearranged<'a>(h: &'a Symmetric, order: Option<&[usize]>) -> Cow<'a, Symmetric> {
    let Some(order) = order else {
        return Cow::Borrowed(h);
    };
    let mut turned = Symmetric::zeros(h.size());
    for (row, &i) in turned.rows_mut().zip(order) {
        row.iter_mut()
            .zip(order)
            .for_each(|(x, &j)| *x = h.at(i, j));
    }
    Cow::Owned(turned)
}
