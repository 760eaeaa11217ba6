//! Eigenvectors of a tridiagonal matrix from those of its halves.
//!
//! ```text
//! T = diag(T₁, T₂) + |β| u uᵀ = Q (D + ρ z zᵀ) Qᵀ        Q = diag(Q₁, Q₂), z = Qᵀ u / √2, ρ = 2 |β|
//!   = Q S Λ Sᵀ Qᵀ                                        `deflation.rs`, `secular.rs`
//! ```
//!
//! The product Q S is most of the time: it leaves out what stays as it is, and what is not wanted.

use faer::{Accum, Mat};
use rayon::prelude::*;

use super::{
    deflation::{Deflated, Rotation, deflate},
    divide_and_conquer::Solution,
    secular::Root,
};
use crate::linalg::{Real, product::multiply_tiles};

/// Columns of S that a thread takes at a time.
const COLUMNS: usize = 32;

/// The solution of the whole from those of its halves and the element between them.
pub(super) fn merge<T: Real>(
    first: Solution<T>,
    second: Solution<T>,
    beta: f64,
    count: usize,
) -> Solution<T> {
    let (middle, n) = (first.values.len(), first.values.len() + second.values.len());
    let before = (0..middle).map(|j| first.vectors[(middle - 1, j)].to_f64());
    let behind = (0..n - middle).map(|j| beta.signum() * second.vectors[(0, j)].to_f64());
    let z: Vec<f64> = before.chain(behind).map(|x| x * 0.5_f64.sqrt()).collect();
    let deflated = deflate(
        &[first.values, second.values].concat(),
        &z,
        2.0 * beta.abs(),
        T::EPSILON,
    );
    let roots = deflated.secular.roots();
    let eigenpairs = eigenpairs(&deflated, &roots);
    let values = eigenpairs.iter().map(|(value, _)| *value).collect();
    let wanted: Vec<Vector> = eigenpairs[n - count..].iter().map(|(_, of)| *of).collect();
    let basis = Basis {
        halves: [first.vectors, second.vectors],
    };
    Solution {
        values,
        vectors: basis.vectors(deflated, &roots, &wanted),
    }
}

/// A column of S.
#[derive(Clone, Copy)]
enum Vector {
    /// Of a root of the secular equation.
    Root(usize),
    /// Of a known eigenvalue: a column of G.
    Known(usize),
}

/// All eigenvalues, ascending.
fn eigenpairs(deflated: &Deflated, roots: &[Root]) -> Vec<(f64, Vector)> {
    let roots = roots.iter().enumerate();
    let roots = roots.map(|(index, root)| (root.value(), Vector::Root(index)));
    let known = deflated.known.iter();
    let known = known.map(|(value, index)| (*value, Vector::Known(*index)));
    let mut all: Vec<_> = roots.chain(known).collect();
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    all
}

/// Where a column of Q S comes from.
enum Source {
    /// A column of Q as it stands, since no rotation touched it.
    Column(usize),
    /// A column of the product.
    Product(usize),
}

/// Q, the eigenvectors of the two halves.
struct Basis<T> {
    halves: [Mat<T>; 2],
}

impl<T: Real> Basis<T> {
    /// Q S for the wanted columns of S.
    fn vectors(&self, deflated: Deflated, roots: &[Root], wanted: &[Vector]) -> Mat<T> {
        let rotated = deflated.rotations.iter().flat_map(|turn| [turn.x, turn.y]);
        // The rows of S, and columns of Q, that are in the products.
        let mut rows: Vec<usize> = deflated.kept.iter().copied().chain(rotated).collect();
        rows.sort_unstable();
        rows.dedup();
        let mut factors = Vec::new();
        let mut source = |of: &Vector| match of {
            Vector::Known(index) if rows.binary_search(index).is_err() => Source::Column(*index),
            of => {
                factors.push(*of);
                Source::Product(factors.len() - 1)
            }
        };
        let sources: Vec<Source> = wanted.iter().map(&mut source).collect();
        let products = self.products(&rows, &coefficients(deflated, roots, &factors, &rows));
        let [first, second] = &self.halves;
        let middle = first.nrows();
        let mut vectors = Mat::zeros(middle + second.nrows(), wanted.len());
        for (source, column) in sources.into_iter().zip(vectors.col_iter_mut()) {
            let (mut above, mut below) = column.split_at_row_mut(middle);
            match source {
                Source::Column(index) if index < middle => above.copy_from(first.col(index)),
                Source::Column(index) => below.copy_from(second.col(index - middle)),
                Source::Product(index) => {
                    let (product_above, product_below) = products.col(index).split_at_row(middle);
                    above.copy_from(product_above);
                    below.copy_from(product_below);
                }
            }
        }
        vectors
    }

    /// The columns of Q that `rows` names times S.
    fn products(&self, rows: &[usize], s: &Mat<T>) -> Mat<T> {
        let [first, second] = &self.halves;
        let middle = first.nrows();
        let mut products = Mat::zeros(middle + second.nrows(), s.ncols());
        let (above, below) = products.split_at_row_mut(middle);
        let (rows_above, rows_below) = rows.split_at(rows.partition_point(|row| *row < middle));
        let (s_above, s_below) = s.split_at_row(rows_above.len());
        for (target, half, rows, shift, s) in [
            (above, first, rows_above, 0, s_above),
            (below, second, rows_below, middle, s_below),
        ] {
            let columns = Mat::from_fn(half.nrows(), rows.len(), |i, j| half[(i, rows[j] - shift)]);
            multiply_tiles(
                target,
                Accum::Replace,
                columns.as_ref(),
                s,
                T::from_f32(1.0),
            );
        }
        products
    }
}

/// The given columns of S, its `rows` only: all others are zero in them.
fn coefficients<T: Real>(
    deflated: Deflated,
    roots: &[Root],
    columns: &[Vector],
    rows: &[usize],
) -> Mat<T> {
    // All are in it.
    let position = |index: &usize| rows.partition_point(|row| row < index);
    let kept: Vec<usize> = deflated.kept.iter().map(position).collect();
    let rotations = deflated.rotations.iter().map(|turn| Rotation {
        x: position(&turn.x),
        y: position(&turn.y),
        ..*turn
    });
    let rotations: Vec<Rotation> = rotations.collect();
    let secular = deflated.secular.with_roots(roots);
    let mut s = Mat::zeros(rows.len(), columns.len());
    let parts = s.par_col_chunks_mut(COLUMNS);
    parts
        .zip(columns.par_chunks(COLUMNS))
        .for_each(|(part, columns)| {
            let (mut vector, mut column) = (vec![0.0; kept.len()], vec![0.0; rows.len()]);
            for (target, of) in part.col_iter_mut().zip(columns) {
                column.fill(0.0);
                match of {
                    Vector::Root(index) => {
                        secular.vector(roots[*index], &mut vector);
                        for (row, x) in kept.iter().zip(&vector) {
                            column[*row] = *x;
                        }
                    }
                    Vector::Known(index) => column[position(index)] = 1.0,
                }
                for turn in rotations.iter().rev() {
                    let (x, y) = (column[turn.x], column[turn.y]);
                    column[turn.x] = turn.c * x - turn.s * y;
                    column[turn.y] = turn.s * x + turn.c * y;
                }
                for (target, x) in target.iter_mut().zip(&column) {
                    *target = T::from_f64(*x);
                }
            }
        });
    s
}
