//! The Cholesky decomposition of a positive definite matrix in place, and the inverse root from it, on all cores.
//!
//! [`Cholesky`] solves systems with H + ε I (refit targets) and gives roots of metrics; [`InverseRoot`] is the U with
//! Uᵀ U = H⁻¹ of GPTQ.
//!
//! ```text
//! A = L Lᵀ                          n × n, positive definite; L lower triangular
//! L[P, P] = factor(A[P, P])          for one panel P of columns after the other, i and j rows below it:
//! L[i, P] = A[i, P] L[P, P]⁻ᵀ
//! A[i, j] −= L[i, P] L[j, P]ᵀ
//! ```
//!
//! The right-looking blocked algorithm, n³ / 3 operations, nearly all of them in matrix products. Threads share bands
//! of rows. A band writes itself only; what it reads of others, n numbers for each column of a panel, is copied
//! first. Panels and bands have a fixed size, and each piece is done by one thread: so
//! the bytes are the same for any number of threads.
//!
//! # References
//!
//! Golub & Van Loan, *Matrix Computations*, section 4.2; the inverse root is that of GPTQ's Cholesky reformulation,
//! Frantar et al., arXiv 2210.17323.

use faer::{
    Accum, Mat, MatMut, MatRef, Par,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch},
        matmul::{
            matmul,
            triangular::{BlockStructure, matmul as matmul_structured},
        },
        triangular_inverse::invert_lower_triangular,
        triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    },
};
use rayon::prelude::*;

use super::square::Square;
use crate::{Error, Result, Shape, Symmetric};

/// Columns of a panel, and rows of a band. Changing it changes the order of summation, and so the bytes of results.
const PANEL: usize = 256;

/// Right-hand sides that a thread solves for together, so that L is read once for all of them.
const SIDES: usize = 64;

/// The Cholesky factor L of A = L Lᵀ, n × n in `f64`. It needs 8·n² bytes.
#[derive(Clone, Debug)]
pub struct Cholesky(Square);

/// A matrix that is not positive definite, given back unchanged, so that the caller can damp it more and try again.
#[derive(Clone, Debug)]
pub struct Indefinite(pub Symmetric);

impl Indefinite {
    /// The error for callers that cannot go on.
    #[must_use]
    pub fn error(&self) -> Error {
        undefined(self.0.size())
    }
}

/// The error of a matrix that is not positive definite.
fn undefined(n: usize) -> Error {
    Error::Convergence {
        what: "Cholesky decomposition",
        shape: Shape::new(n, n),
    }
}

impl Cholesky {
    /// Decomposes a matrix in its own memory, which grows to n × n; fails where it is not positive definite.
    pub fn new(matrix: Symmetric) -> Result<Self> {
        let mut square = Square::unfolded(matrix);
        if factor(&mut square.numbers, square.size) {
            Ok(Self(square))
        } else {
            Err(undefined(square.size))
        }
    }

    /// n.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.0.size
    }

    /// Solves `X · A = T` in place of T; both m × n, row after row. A is symmetric, so that each row is one system.
    pub fn solve(&self, sides: &mut [f64]) {
        let n = self.0.size;
        let l = MatRef::from_row_major_slice(&self.0.numbers, n, n);
        sides.par_chunks_mut(SIDES * n.max(1)).for_each(|band| {
            let count = band.len() / n;
            // Rows of T are the columns of Tᵀ, as faer solves for them.
            let mut x = MatRef::from_column_major_slice(&*band, n, count).to_owned();
            // A = L Lᵀ: forward, then backward substitution.
            solve_lower_triangular_in_place(l, x.as_mut(), Par::Seq);
            solve_upper_triangular_in_place(l.transpose(), x.as_mut(), Par::Seq);
            let columns = band.chunks_exact_mut(n).enumerate();
            columns.for_each(|(i, side)| side.copy_from_slice(x.col_as_slice(i)));
        });
    }

    /// `Lᵀ · x` for the columns of an n × k matrix; fails where x has not n rows. (The root of A that a norm ‖A^½ x‖
    /// needs.)
    pub fn root_times(&self, x: &super::Double) -> Result<super::Double> {
        let n = self.0.size;
        let l = MatRef::from_row_major_slice(&self.0.numbers, n, n);
        super::fit(l.transpose(), x.0.as_ref())?;
        let mut out = Mat::zeros(n, x.cols());
        let bands = out.as_mut().par_col_chunks_mut(PANEL).enumerate();
        bands.for_each(|(i, target)| {
            let columns = x.0.subcols(i * PANEL, target.ncols());
            let upper = BlockStructure::TriangularUpper;
            let all = BlockStructure::Rectangular;
            matmul_structured(
                target,
                all,
                Accum::Replace,
                l.transpose(),
                upper,
                columns,
                all,
                1.0,
                Par::Seq,
            );
        });
        Ok(super::Dense(out))
    }
}

/// The upper triangular U with Uᵀ U = A⁻¹, and A itself: GPTQ's inverse root of H.
#[derive(Clone, Debug)]
pub struct InverseRoot {
    square: Square, // U on and above the diagonal, A below it
    /// The diagonal of A, n numbers, which U overwrites in the square.
    pub diagonal: Vec<f64>,
}

impl InverseRoot {
    /// Finds U in A's own memory, which grows to n × n; gives A back where it is not positive definite.
    ///
    /// With J the exchange matrix, the Cholesky factor of J A J reversed back is R, upper triangular with A = R Rᵀ;
    /// then U = R⁻¹. The inverse of A is never formed, as it is in GPTQ's published code, which decomposes it again.
    pub fn new(matrix: Symmetric) -> std::result::Result<Self, Indefinite> {
        let mut square = Square::unfolded(matrix);
        let diagonal = square.diagonal();
        square.turn();
        // Reversed, the factor L of J A J lies below the diagonal; reversed back, R = J L J lies above it.
        let definite = factor(&mut square.numbers, square.size);
        if definite {
            invert(&mut square.numbers, square.size);
        }
        square.turn();
        if definite {
            Ok(Self { square, diagonal })
        } else {
            Err(Indefinite(square.folded(&diagonal)))
        }
    }

    /// n.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.square.size
    }

    /// The diagonal of U, n numbers: the pivots by which GPTQ divides.
    #[must_use]
    pub fn root_diagonal(&self) -> Vec<f64> {
        self.square.diagonal()
    }

    /// Hands out rows, the last one first: in row i the numbers before the i-th are those of A, the others those of U.
    pub fn into_rows(self, mut take: impl FnMut(usize, &[f64])) {
        let Square { size, numbers } = self.square;
        for i in (0..size).rev() {
            take(i, &numbers[i * size..(i + 1) * size]);
        }
    }
}

/// Replaces the lower triangle and the diagonal by L; false where A is not positive definite, and the triangle is then
/// overwritten in part.
fn factor(numbers: &mut [f64], n: usize) -> bool {
    for first in (0..n).step_by(PANEL) {
        let end = n.min(first + PANEL);
        let width = end - first;
        let (above, below) = numbers.split_at_mut(end * n);
        let corner = &mut above[first * n..];
        // The diagonal block on one thread: 256 columns take little, and all else waits for it.
        let Some(root) = factor_corner(corner, n, first) else {
            return false;
        };
        // The copy that bands read of each other, while they are written.
        let mut panel = vec![0.0; (n - end) * width]; // L[below, P]
        let copies = panel.par_chunks_mut(PANEL * width);
        let bands = below.par_chunks_mut(PANEL * n).zip(copies);
        bands.with_max_len(1).for_each(|(band, copy)| {
            let count = copy.len() / width;
            let mut x = Mat::from_fn(width, count, |j, i| band[i * n + first + j]);
            solve_lower_triangular_in_place(root.as_ref(), x.as_mut(), Par::Seq);
            for (i, solved) in copy.chunks_exact_mut(width).enumerate() {
                solved.copy_from_slice(x.col_as_slice(i));
                band[i * n + first..][..width].copy_from_slice(solved);
            }
        });
        let bands = below.par_chunks_mut(PANEL * n).enumerate();
        // The longest come last: taken from the end, no core waits for one.
        let bands = bands.rev().with_max_len(1);
        bands.for_each(|(i, band)| subtract(band, n, end, i * PANEL, (&panel, width)));
    }
    true
}

/// The Cholesky factor of a panel's diagonal block, put in place; none where it is not positive definite.
fn factor_corner(rows: &mut [f64], n: usize, first: usize) -> Option<Mat<f64>> {
    let width = rows.len() / n;
    let mut corner = Mat::from_fn(width, width, |i, j| rows[i * n + first + j]);
    let scratch = cholesky_in_place_scratch::<f64>(width, Par::Seq, faer::Spec::default());
    cholesky_in_place(
        corner.as_mut(),
        faer::linalg::cholesky::llt::factor::LltRegularization::default(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::Spec::default(),
    )
    .ok()?;
    for (i, row) in rows.chunks_exact_mut(n).enumerate() {
        for j in 0..=i {
            row[first + j] = corner[(i, j)];
        }
    }
    // Infinities pass the check for positive pivots.
    let finite = (0..width).all(|i| corner[(i, i)].is_finite());
    finite.then_some(corner)
}

/// A[i, j] −= L[i, P] L[j, P]ᵀ for a band's rows i, from `offset` on below the panel, and j ≤ i after the panel. `end`
/// is the first column after the panel, which is `width` columns wide.
fn subtract(
    band: &mut [f64],
    n: usize,
    end: usize,
    offset: usize,
    (panel, width): (&[f64], usize),
) {
    let count = band.len() / n;
    let panel = MatRef::from_row_major_slice(panel, panel.len() / width, width);
    let own = panel.subrows(offset, count);
    let rows = MatMut::from_row_major_slice_mut(band, count, n);
    let (_, after) = rows.split_at_col_mut(end);
    let (before, rest) = after.split_at_col_mut(offset);
    let others = panel.subrows(0, offset).transpose();
    matmul(before, Accum::Add, own, others, -1.0, Par::Seq);
    // The band's own diagonal block is symmetric: its lower triangle is all there is to update.
    let (corner, _) = rest.split_at_col_mut(count);
    matmul_structured(
        corner,
        BlockStructure::TriangularLower,
        Accum::Add,
        own,
        BlockStructure::Rectangular,
        own.transpose(),
        BlockStructure::Rectangular,
        -1.0,
        Par::Seq,
    );
}

/// Replaces L by its inverse M, one panel of columns after the other, the last one first, so that all rows and columns
/// below the panel are inverted already:
/// M[i, P] = −Σ_{j ≤ i} M[i, j] L[j, P] L[P, P]⁻¹ for rows i and j below the panel.
fn invert(numbers: &mut [f64], n: usize) {
    for first in (0..n).step_by(PANEL).rev() {
        let end = n.min(first + PANEL);
        let width = end - first;
        let (above, below) = numbers.split_at_mut(end * n);
        let inverse = invert_corner(&mut above[first * n..], n, first);
        let mut panel = vec![0.0; (n - end) * width]; // −L[below, P] L[P, P]⁻¹
        let copies = panel.par_chunks_mut(PANEL * width);
        let bands = below.par_chunks(PANEL * n).zip(copies);
        bands.with_max_len(1).for_each(|(band, copy)| {
            let count = copy.len() / width;
            let rows = MatRef::from_row_major_slice(band, count, n).subcols(first, width);
            let target = MatMut::from_row_major_slice_mut(copy, count, width);
            matmul(
                target,
                Accum::Replace,
                rows,
                inverse.as_ref(),
                -1.0,
                Par::Seq,
            );
        });
        let bands = below.par_chunks_mut(PANEL * n).enumerate();
        let bands = bands.rev().with_max_len(1);
        bands.for_each(|(i, band)| {
            multiply(band, n, first..end, i * PANEL, &panel);
        });
    }
}

/// The inverse of a panel's diagonal block, put in place.
fn invert_corner(rows: &mut [f64], n: usize, first: usize) -> Mat<f64> {
    let width = rows.len() / n;
    let corner = Mat::from_fn(width, width, |i, j| rows[i * n + first + j]);
    let mut inverse = Mat::zeros(width, width);
    invert_lower_triangular(inverse.as_mut(), corner.as_ref(), Par::Seq);
    for (i, row) in rows.chunks_exact_mut(n).enumerate() {
        for j in 0..=i {
            row[first + j] = inverse[(i, j)];
        }
    }
    inverse
}

/// M[i, P] = Σ_{j ≤ i} M[i, j] C[j, P] for a band's rows i, from `offset` on below the panel P.
fn multiply(band: &mut [f64], n: usize, columns: std::ops::Range<usize>, offset: usize, c: &[f64]) {
    let count = band.len() / n;
    let c = MatRef::from_row_major_slice(c, c.len() / columns.len(), columns.len());
    let rows = MatMut::from_row_major_slice_mut(band, count, n);
    let (rows, inverted) = rows.split_at_col_mut(columns.end);
    let (_, mut target) = rows.split_at_col_mut(columns.start);
    let inverted = inverted.as_ref();
    let (before, rest) = inverted.split_at_col(offset);
    matmul(
        target.as_mut(),
        Accum::Replace,
        before,
        c.subrows(0, offset),
        1.0,
        Par::Seq,
    );
    matmul_structured(
        target,
        BlockStructure::Rectangular,
        Accum::Add,
        rest.subcols(0, count),
        BlockStructure::TriangularLower,
        c.subrows(offset, count),
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
}
