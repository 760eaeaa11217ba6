//! Eigenvalues and eigenvectors of a diagonal matrix with a change of rank one.
//!
//! ```text
//! D + ρ z zᵀ,  d₁ < d₂ < … < dₘ, ρ > 0, no zᵢ = 0
//! w(λ) = 1/ρ + Σ zₖ² / (dₖ − λ) = 0             the secular equation: one root above each pole dₖ, below the next
//! ẑᵢ² = Πₖ (λₖ − dᵢ) / Πₖ≠ᵢ (dₖ − dᵢ) / ρ       the z of which the computed λ are the exact eigenvalues
//! sₗ = ẑᵢ / (dᵢ − λₗ), normalised               the eigenvectors; orthogonal to working precision because of ẑ
//! ```
//!
//! A root may lie closer to a pole than numbers of its own size can tell, so each is kept as its distance from the nearest
//! pole. Everything is in `f64`, whatever the matrix is in.
//!
//! # References
//!
//! Gu & Eisenstat, *A stable and efficient algorithm for the rank-one modification of the symmetric eigenproblem*, SIAM J.
//! Matrix Anal. Appl. 1994; Bunch, Nielsen & Sorensen, *Rank-one modification of the symmetric eigenproblem*, Numer. Math.
//! 1978, for the iteration.

use rayon::prelude::*;

use crate::kernels::vectorized;

/// Sums side by side: enough for two of the widest vectors.
const LANES: usize = 16;

/// Most steps towards a root; five are usual.
const STEPS: usize = 120;

/// Roots, or elements of ẑ, that a thread takes at a time.
const PART: usize = 32;

/// D + ρ z zᵀ.
pub(super) struct Secular {
    /// The poles, ascending and distinct.
    d: Vec<f64>,
    z: Vec<f64>,
    squares: Vec<f64>,
    rho: f64,
}

/// An eigenvalue, d + offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    /// The nearest pole.
    d: f64,
    offset: f64,
}

impl Root {
    pub fn value(self) -> f64 {
        self.d + self.offset
    }
}

/// Σ z² / (δ − μ) over some of the poles, and its derivative by μ.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    slope: f64,
}

impl Secular {
    /// `d` ascending and distinct, no `z` zero, `rho` above zero.
    pub fn new(d: Vec<f64>, z: Vec<f64>, rho: f64) -> Self {
        let squares = z.iter().map(|z| z * z).collect();
        Self { d, z, squares, rho }
    }

    /// All eigenvalues, ascending.
    pub fn roots(&self) -> Vec<Root> {
        let indices = (0..self.d.len()).into_par_iter().with_min_len(PART);
        indices.map(|index| self.root(index)).collect()
    }

    /// The root above pole `index`.
    fn root(&self, index: usize) -> Root {
        let last = index + 1 == self.d.len();
        if last {
            return self.last_root();
        }
        let gap = self.d[index + 1] - self.d[index];
        let above = Side::new(self, index, 1.0);
        let (near, far) = above.sums(gap / 2.0);
        let middle = above.constant + near.value + far.value;
        // w rises from −∞ to ∞: above zero in the middle, its root lies in the lower half.
        let (side, middle) = if middle >= 0.0 {
            (above, middle)
        } else {
            (Side::new(self, index + 1, -1.0), -middle)
        };
        let (near, far) = side.squares_of_poles();
        // What the other poles contribute in the middle is taken as constant at first.
        let rest = middle + (near - far) / (gap / 2.0);
        let start = between(rest, near, far, gap);
        side.root(start, (0.0, gap / 2.0), Some(gap))
    }

    /// The root above the last pole; it lies below d + ρ ‖z‖².
    fn last_root(&self) -> Root {
        let side = Side::new(self, self.d.len() - 1, 1.0);
        let end = self.rho * self.squares.iter().sum::<f64>();
        // With one pole it is the end itself, which a model may well hit.
        side.root(end, (0.0, 2.0 * end), None)
    }

    /// z such that `roots` are the eigenvalues of D + z zᵀ to the last digits: with it eigenvectors are orthogonal.
    pub fn with_roots(self, roots: &[Root]) -> Self {
        let poles: Vec<f64> = roots.iter().map(|root| root.d).collect();
        let offsets: Vec<f64> = roots.iter().map(|root| root.offset).collect();
        let indices = (0..self.d.len()).into_par_iter().with_min_len(PART);
        let z = indices.map(|i| {
            let at = self.d[i];
            let own = (poles[i] - at) + offsets[i];
            let others = [0..i, i + 1..self.d.len()].map(|range| {
                let (d, poles) = (&self.d[range.clone()], &poles[range.clone()]);
                ratios(at, d, poles, &offsets[range])
            });
            let square = own * others[0] * others[1];
            square.abs().sqrt().copysign(self.z[i])
        });
        let z = z.collect();
        Self::new(self.d, z, 1.0)
    }

    /// The normalised eigenvector of a root, for a matrix that has it to the last digits: see `with_roots`.
    pub fn vector(&self, root: Root, vector: &mut [f64]) {
        let squares = vectorized(
            #[inline(always)]
            || {
                let mut squares = [0.0; LANES];
                let (z, z_rest) = self.z.as_chunks::<LANES>();
                let (d, d_rest) = self.d.as_chunks::<LANES>();
                let (out, out_rest) = vector.as_chunks_mut::<LANES>();
                for ((z, d), out) in z.iter().zip(d).zip(out) {
                    for lane in 0..LANES {
                        out[lane] = z[lane] / ((d[lane] - root.d) - root.offset);
                        squares[lane] += out[lane] * out[lane];
                    }
                }
                let mut sum: f64 = squares.iter().sum();
                for ((z, d), out) in z_rest.iter().zip(d_rest).zip(out_rest) {
                    *out = z / ((d - root.d) - root.offset);
                    sum += *out * *out;
                }
                sum
            },
        );
        let scale = 1.0 / squares.sqrt();
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}

/// The secular equation seen from a pole towards the next one: its zero is the pole, and λ = d + sign · μ with μ > 0.
///
/// Upwards or downwards, the equation has one form: constant + Σ z² / (δ − μ) with δ = sign · (dₖ − d); it rises with μ.
struct Side<'a> {
    equation: &'a Secular,
    pole: usize,
    sign: f64,
    constant: f64,
}

impl<'a> Side<'a> {
    fn new(equation: &'a Secular, pole: usize, sign: f64) -> Self {
        let constant = sign / equation.rho;
        Self {
            equation,
            pole,
            sign,
            constant,
        }
    }

    /// z² of the pole, and of the next one.
    fn squares_of_poles(&self) -> (f64, f64) {
        let next = if self.sign > 0.0 {
            self.pole + 1
        } else {
            self.pole - 1
        };
        let squares = &self.equation.squares;
        (squares[self.pole], squares[next])
    }

    /// The sums at μ over the poles with δ ≤ 0, and over those beyond.
    fn sums(&self, mu: f64) -> (Sum, Sum) {
        let (pole, all) = (self.pole, self.equation.d.len());
        let (near, far) = if self.sign > 0.0 {
            (0..pole + 1, pole + 1..all)
        } else {
            (pole..all, 0..pole)
        };
        (self.sum(near, mu), self.sum(far, mu))
    }

    fn sum(&self, poles: std::ops::Range<usize>, mu: f64) -> Sum {
        let d = &self.equation.d[poles.clone()];
        let squares = &self.equation.squares[poles];
        let (at, sign) = (self.equation.d[self.pole], self.sign);
        vectorized(
            #[inline(always)]
            move || {
                let (mut values, mut slopes) = ([0.0; LANES], [0.0; LANES]);
                let (d, d_rest) = d.as_chunks::<LANES>();
                let (squares, squares_rest) = squares.as_chunks::<LANES>();
                for (d, squares) in d.iter().zip(squares) {
                    for lane in 0..LANES {
                        let inverse = 1.0 / (sign * (d[lane] - at) - mu);
                        let term = squares[lane] * inverse;
                        values[lane] += term;
                        slopes[lane] += term * inverse;
                    }
                }
                let mut sum = Sum {
                    value: values.iter().sum(),
                    slope: slopes.iter().sum(),
                };
                for (d, square) in d_rest.iter().zip(squares_rest) {
                    let inverse = 1.0 / (sign * (d - at) - mu);
                    sum.value += square * inverse;
                    sum.slope += square * inverse * inverse;
                }
                sum
            },
        )
    }

    /// The root in an interval of μ, from a start in it. `gap` is where the next pole is, if there is one.
    fn root(&self, start: f64, (mut low, mut high): (f64, f64), gap: Option<f64>) -> Root {
        let rounding = f64::EPSILON * (self.equation.d.len() / LANES + 8) as f64;
        let mut mu = start;
        for _ in 0..STEPS {
            // A model may leave the interval, or be no number, where it is far from the equation.
            if !(mu > low && mu < high) {
                mu = low + (high - low) / 2.0;
            }
            let (near, far) = self.sums(mu);
            let value = self.constant + near.value + far.value;
            let size = self.constant.abs() + near.value.abs() + far.value.abs();
            if value.abs() <= rounding * size {
                break;
            }
            if value > 0.0 {
                high = mu;
            } else {
                low = mu;
            }
            let before = mu;
            mu = self.step(mu, near, far, gap);
            if (mu - before).abs() <= f64::EPSILON * before || high - low <= f64::EPSILON * high {
                break;
            }
        }
        // The last step may have left the interval.
        if !(mu > low && mu < high) {
            mu = low + (high - low) / 2.0;
        }
        Root {
            d: self.equation.d[self.pole],
            offset: self.sign * mu,
        }
    }

    /// The root of the model that has the value and the slope of each sum at μ: a constant and one pole for each.
    fn step(&self, mu: f64, near: Sum, far: Sum, gap: Option<f64>) -> f64 {
        let near_square = near.slope * mu * mu;
        let rest = self.constant + near.value + near.slope * mu;
        let Some(gap) = gap else {
            return near_square / rest;
        };
        let beyond = gap - mu;
        let far_square = far.slope * beyond * beyond;
        let rest = rest + far.value - far.slope * beyond;
        between(rest, near_square, far_square, gap)
    }
}

/// The root between 0 and `gap` of rest − near / μ + far / (gap − μ), without cancellation.
fn between(rest: f64, near: f64, far: f64, gap: f64) -> f64 {
    let (b, c) = (rest * gap + near + far, near * gap);
    // Rounding may make it negative where the two roots of the quadratic are one.
    let root = (b * b - 4.0 * rest * c).max(0.0).sqrt();
    if b > 0.0 {
        2.0 * c / (b + root)
    } else {
        (b - root) / (2.0 * rest)
    }
}

/// Π (λₖ − at) / (dₖ − at). A root lies between its pole and the next, so that a partial product is no larger than the
/// ratio of the largest difference of poles to the least, and no smaller than its inverse.
fn ratios(at: f64, d: &[f64], poles: &[f64], offsets: &[f64]) -> f64 {
    vectorized(
        #[inline(always)]
        move || {
            let mut products = [1.0; LANES];
            let (d, d_rest) = d.as_chunks::<LANES>();
            let (poles, poles_rest) = poles.as_chunks::<LANES>();
            let (offsets, offsets_rest) = offsets.as_chunks::<LANES>();
            for ((d, poles), offsets) in d.iter().zip(poles).zip(offsets) {
                for lane in 0..LANES {
                    let to_root = (poles[lane] - at) + offsets[lane];
                    products[lane] *= to_root / (d[lane] - at);
                }
            }
            let rest = d_rest.iter().zip(poles_rest).zip(offsets_rest);
            let rest = rest.map(|((d, pole), offset)| ((pole - at) + offset) / (d - at));
            products.iter().product::<f64>() * rest.product::<f64>()
        },
    )
}
