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

use compress_core::{
    Result, Symmetric,
    linalg::{Double, Indefinite, InverseRoot},
};

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
    pub fn new(mut h: Symmetric, damping: f64, order: bool) -> Result<Self> {
        let n = h.size();
        let dead = h.diagonal_mut().filter(|x| **x <= 0.0);
        dead.for_each(|x| *x = 1.0);
        let order = order.then(|| falling(&h));
        let mean = h.trace() / n.max(1) as f64;
        let damped = h.plus_diagonal(damping * mean);
        let mut matrix = rearranged(damped, order.as_deref());
        let mut attempt = 1;
        let root = loop {
            match InverseRoot::new(matrix) {
                Err(Indefinite(same)) if attempt < ATTEMPTS => {
                    let more = 10_f64.powi(attempt as i32) * damping.max(1e-6);
                    matrix = same.plus_diagonal(more * mean);
                    attempt += 1;
                }
                outcome => break outcome.map_err(|indefinite| indefinite.error())?,
            }
        };
        let diagonal = root.root_diagonal();
        let squares: Vec<f64> = diagonal.iter().map(|x| x.powi(-2)).collect();
        let mut importance = squares.clone();
        for (place, input) in order.iter().flatten().enumerate() {
            importance[*input] = squares[place];
        }
        let input = |place: usize| order.as_ref().map_or(place, |order| order[place]);
        let (mut damped, mut feedback) = (Double::zeros(n, n), Double::zeros(n, n));
        for (place, x) in root.diagonal.iter().enumerate() {
            damped.column_mut(input(place))[input(place)] = *x;
        }
        root.into_rows(|i, row| {
            let (of_h, of_root) = row.split_at(i);
            for (j, x) in of_h.iter().enumerate() {
                damped.column_mut(input(i))[input(j)] = *x;
                damped.column_mut(input(j))[input(i)] = *x;
            }
            for (k, x) in (i..).zip(of_root) {
                feedback.column_mut(k)[i] = x / diagonal[i];
            }
        });
        Ok(Self {
            damped,
            feedback,
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

fn rearranged(h: Symmetric, order: Option<&[usize]>) -> Symmetric {
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
