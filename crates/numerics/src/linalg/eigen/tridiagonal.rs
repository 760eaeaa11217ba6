//! Reduction of a symmetric matrix to tridiagonal form by blocked Householder reflections, on all cores.
//!
//! ```text
//! A = Q T Qᵀ            Q = Π (1 − v vᵀ / τ), one reflection for each column
//! a = A[:, k] − V W[k]ᵀ − W V[k]ᵀ          the next column, behind the reflections of its panel so far
//! (1 − v vᵀ / τ) a = β e₁                   its reflection
//! p = (A − V Wᵀ − W Vᵀ) v / τ
//! w = p − v · (vᵀ p) / 2τ                  V and W grow by v and w
//! A ← A − V Wᵀ − W Vᵀ                       behind each panel
//! ```
//!
//! Half of the 4/3·n³ operations are products of A with one vector, which read n³/6 numbers: they are bound by memory
//! bandwidth. The other half are matrix products. A reduction without panels reads and writes A for each column; it is
//! faster where A lies in a core's cache, and is left to faer there.
//!
//! # References
//!
//! Dongarra, Sorensen & Hammarling, *Block reduction of matrices to condensed forms for eigenvalue computations*,
//! J. Comput. Appl. Math. 27, 1989.

use faer::{
    Accum, ColMut, Conj, Mat, MatMut, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        evd::tridiag::{tridiag_in_place, tridiag_in_place_scratch},
        householder::{
            apply_block_householder_sequence_on_the_left_in_place_scratch as reflect_scratch,
            apply_block_householder_sequence_on_the_left_in_place_with_conj as reflect,
            make_householder_in_place,
        },
        qr::no_pivoting::factor::recommended_block_size,
    },
};
use rayon::prelude::*;

use super::symv::Symv;
use crate::{
    kernels::vectorized,
    linalg::{Real, product::multiply_lower_tiles},
};

/// Columns of a panel.
const PANEL: usize = 64;

/// The rest of a matrix that is reduced without panels, by one thread.
const CACHED: usize = 1024;

/// Vectors that a thread takes back through the reflections together.
const VECTORS: usize = 256;

/// Q and T of A = Q T Qᵀ.
pub(super) struct Tridiagonal<T> {
    /// The v below the diagonal, without their first elements, which are 1.
    reflections: Mat<T>,
    /// For each block of columns an upper triangle R with Q = 1 − V R⁻¹ Vᵀ: τ on its diagonal, vᵢᵀ vⱼ above.
    blocks: Mat<T>,
    /// The diagonal of T.
    pub diagonal: Diag<T>,
    /// The subdiagonal of T, and a zero.
    pub below: Diag<T>,
}

impl<T: Real> Tridiagonal<T> {
    /// Reduces a symmetric matrix in its own memory. Reads the lower triangle.
    pub fn of(mut a: Mat<T>) -> Self {
        let n = a.nrows();
        // One size for all blocks of a matrix; faer's own where it reduces all of it.
        let block = if n > CACHED {
            PANEL
        } else {
            recommended_block_size::<T>(n, n)
        };
        let mut blocks = Mat::zeros(block, n.saturating_sub(1));
        let mut first = 0;
        if n > CACHED {
            let mut panels = Panels::new(n);
            while n - first > CACHED {
                panels.reduce(&mut a, first, blocks.as_mut().subcols_mut(first, PANEL));
                first += PANEL;
            }
        }
        reduce_cached(
            a.as_mut().submatrix_mut(first, first, n - first, n - first),
            blocks
                .as_mut()
                .subcols_mut(first, (n - first).saturating_sub(1)),
        );
        let (mut diagonal, mut below) = (Diag::zeros(n), Diag::zeros(n));
        for i in 0..n {
            diagonal[i] = a[(i, i)];
            if i + 1 < n {
                below[i] = a[(i + 1, i)];
            }
        }
        Self {
            reflections: a,
            blocks,
            diagonal,
            below,
        }
    }

    /// Q · vectors, in place.
    pub fn take_back(&self, vectors: MatMut<'_, T>) {
        let n = self.reflections.nrows();
        // A matrix of one element has no reflections.
        if n < 2 {
            return;
        }
        let reflections = self.reflections.submatrix(1, 0, n - 1, n - 1);
        let parts = vectors.subrows_mut(1, n - 1).par_col_chunks_mut(VECTORS);
        parts.for_each(|part| {
            let scratch = reflect_scratch::<T>(n - 1, self.blocks.nrows(), part.ncols());
            reflect(
                reflections,
                self.blocks.as_ref(),
                Conj::No,
                part,
                Par::Seq,
                MemStack::new(&mut MemBuffer::new(scratch)),
            );
        });
    }
}

/// Reduces a matrix column by column: A is read and written for each.
fn reduce_cached<T: Real>(a: MatMut<'_, T>, blocks: MatMut<'_, T>) {
    let scratch = tridiag_in_place_scratch::<T>(a.nrows(), Par::Seq, Spec::default());
    tridiag_in_place(
        a,
        blocks,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    );
}

/// What the reduction of one panel needs; the next one uses the same memory.
struct Panels<T> {
    /// [V, −W] and [−W, V], n × 2·PANEL, so that one product of the two changes all that is behind the panel.
    left: Mat<T>,
    right: Mat<T>,
    /// The v at hand, and what becomes w of it.
    v: Vec<T>,
    p: Vec<T>,
    symv: Symv<T>,
}

impl<T: Real> Panels<T> {
    fn new(n: usize) -> Self {
        Self {
            left: Mat::zeros(n, 2 * PANEL),
            right: Mat::zeros(n, 2 * PANEL),
            v: vec![T::from_f32(0.0); n],
            p: vec![T::from_f32(0.0); n],
            symv: Symv::new(n),
        }
    }

    /// Reduces the columns from `first` on, and changes what is behind them.
    fn reduce(&mut self, a: &mut Mat<T>, first: usize, mut blocks: MatMut<'_, T>) {
        for k in 0..PANEL {
            let column = &mut a.col_as_slice_mut(first + k)[first + k..];
            for j in 0..k {
                let [v, w] = [j, PANEL + j].map(|j| &self.left.col_as_slice(j)[first + k..]);
                add(column, (v, w[0]), (w, v[0]));
            }
            // The column becomes its element on the diagonal, β, and v without its first element.
            let below = &mut column[1..];
            let tau = reflection(below);
            self.v.clear();
            self.v.push(T::from_f32(1.0));
            self.v.extend_from_slice(&below[1..]);
            blocks[(k, k)] = tau;
            self.grow(a, (first, k), tau, &mut blocks);
        }
        let (behind, rest) = (first + PANEL, a.nrows() - first - PANEL);
        multiply_lower_tiles(
            a.as_mut().submatrix_mut(behind, behind, rest, rest),
            Accum::Add,
            self.left.as_ref().subrows(behind, rest),
            self.right.as_ref().subrows(behind, rest),
        );
    }

    /// Appends v and −w as columns k of V and −W; they begin in the row below the diagonal.
    fn grow(&mut self, a: &Mat<T>, (first, k): (usize, usize), tau: T, blocks: &mut MatMut<'_, T>) {
        let row = first + k + 1;
        let (v, p) = (&self.v, &mut self.p);
        p.truncate(v.len());
        self.symv.multiply(a, row, v, p);
        for j in 0..k {
            let [x, w] = [j, PANEL + j].map(|j| &self.left.col_as_slice(j)[row..]);
            let (along_x, along_w) = (dot(x, v), dot(w, v));
            add(p, (x, along_w), (w, along_x));
            blocks[(j, k)] = along_x;
        }
        let inverse = T::from_f32(1.0) / tau;
        let along_v = T::from_f32(0.5) * inverse * inverse * dot(v, p);
        // −w
        for (p, v) in p.iter_mut().zip(v) {
            *p = along_v * *v - inverse * *p;
        }
        for (matrix, v_at, w_at) in [
            (&mut self.left, k, PANEL + k),
            (&mut self.right, PANEL + k, k),
        ] {
            matrix.col_as_slice_mut(v_at)[row..].copy_from_slice(v);
            matrix.col_as_slice_mut(w_at)[row..].copy_from_slice(p);
        }
    }
}

/// Makes the reflection of a vector onto its first element: v takes its place, but for v₁ = 1, where β is. Returns τ.
fn reflection<T: Real>(vector: &mut [T]) -> T {
    let (head, tail) = ColMut::from_slice_mut(vector).split_at_row_mut(1);
    make_householder_in_place(head.get_mut(0), tail).tau
}

/// y + a·α + b·β, in y.
fn add<T: Real>(y: &mut [T], (a, alpha): (&[T], T), (b, beta): (&[T], T)) {
    vectorized(
        #[inline(always)]
        move || {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = *y + *a * alpha + *b * beta;
            }
        },
    );
}

/// Σ a b, summed in an order that only the length decides.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 32;
    vectorized(
        #[inline(always)]
        move || {
            let mut sums = [T::from_f32(0.0); LANES];
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a.iter().zip(b) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += *a * *b;
                }
            }
            let rest = a_rest.iter().zip(b_rest);
            let rest = rest.fold(T::from_f32(0.0), |sum, (a, b)| sum + *a * *b);
            sums.iter().fold(rest, |sum, lane| sum + *lane)
        },
    )
}
