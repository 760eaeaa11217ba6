//! Eigenvalues and eigenvectors of symmetric tridiagonal matrices by divide and conquer, on all cores.
//!
//! ```text
//! T = diag(T₁, T₂) + |β| u uᵀ        β beside the middle; u is 1 before it and ±1 behind it
//! ```
//!
//! The halves T₁ and T₂ are solved side by side, and merged by `merge.rs`; down to a size that is quick to solve for one thread.
//!
//! # References
//!
//! Cuppen, *A divide and conquer method for the symmetric tridiagonal eigenproblem*, Numer. Math. 1981; Gu & Eisenstat,
//! *A divide-and-conquer algorithm for the symmetric tridiagonal eigenproblem*, SIAM J. Matrix Anal. Appl. 1995.

use super::{failed, merge::merge};
use crate::{Result, linalg::Real};
use faer::{
    Mat, MatMut, Par, Spec,
    diag::{Diag, DiagRef},
    dyn_stack::{MemBuffer, MemStack},
    linalg::evd::{ComputeEigenvectors, self_adjoint_evd_scratch, tridiagonal_self_adjoint_evd},
};

/// Larger matrices are divided.
pub(super) const WHOLE: usize = 1024;

/// Eigenvalues, and eigenvectors of the largest.
pub(super) struct Solution<T> {
    /// All of them, ascending.
    pub values: Vec<f64>,
    /// Columns, of the last of `values`.
    pub vectors: Mat<T>,
}

/// Solves the tridiagonal matrix of a diagonal and what is below it, with eigenvectors of the `count` largest eigenvalues.
pub(super) fn solve<T: Real>(
    diagonal: DiagRef<'_, T>,
    below: DiagRef<'_, T>,
    count: usize,
) -> Result<Solution<T>> {
    let n = diagonal.dim();
    if n <= WHOLE {
        return solve_whole(diagonal, below, count);
    }
    let (mut diagonal, mut below) = (numbers(diagonal), numbers(below));
    let both = || diagonal.iter().chain(&below);
    let size = both().fold(0.0, |most: f64, x| most.max(x.abs()));
    // `max` passes over a NaN.
    if !both().all(|x| x.is_finite()) {
        return Err(failed(n));
    }
    // Squares and inverses of numbers of any size would overflow.
    let scale = if size > 0.0 { size } else { 1.0 };
    diagonal
        .iter_mut()
        .chain(&mut below)
        .for_each(|x| *x /= scale);
    let mut solution = divide(diagonal, &below[..n - 1], count, WHOLE)?;
    solution.values.iter_mut().for_each(|x| *x *= scale);
    Ok(solution)
}

/// Solves halves and merges them, where the matrix is larger than `whole`.
fn divide<T: Real>(
    mut diagonal: Vec<f64>,
    below: &[f64],
    count: usize,
    whole: usize,
) -> Result<Solution<T>> {
    let n = diagonal.len();
    if n <= whole {
        let [mut d, mut b] = [Diag::zeros(n), Diag::zeros(n)];
        for (i, x) in diagonal.iter().enumerate() {
            d[i] = T::from_f64(*x);
        }
        for (i, x) in below.iter().enumerate() {
            b[i] = T::from_f64(*x);
        }
        return solve_whole(d.as_ref(), b.as_ref(), count);
    }
    let middle = n / 2;
    let beta = below[middle - 1];
    diagonal[middle - 1] -= beta.abs();
    diagonal[middle] -= beta.abs();
    let second = diagonal.split_off(middle);
    let (first, second) = rayon::join(
        || divide(diagonal, &below[..middle - 1], middle, whole),
        || divide(second, &below[middle..], n - middle, whole),
    );
    Ok(merge(first?, second?, beta, count))
}

/// faer's solution.
fn solve_whole<T: Real>(
    diagonal: DiagRef<'_, T>,
    below: DiagRef<'_, T>,
    count: usize,
) -> Result<Solution<T>> {
    let n = diagonal.dim();
    let mut vectors = Mat::zeros(n, n);
    let values = by_faer(diagonal, below, Some(vectors.as_mut()))?;
    let vectors = vectors.subcols(n - count, count).to_owned();
    Ok(Solution { values, vectors })
}

/// All eigenvalues of a tridiagonal matrix, ascending: much faster than with vectors.
pub(super) fn eigenvalues<T: Real>(
    diagonal: DiagRef<'_, T>,
    below: DiagRef<'_, T>,
) -> Result<Vec<f64>> {
    by_faer(diagonal, below, None)
}

/// All eigenvalues, ascending, and eigenvectors where there is room for them; by one thread.
fn by_faer<T: Real>(
    diagonal: DiagRef<'_, T>,
    below: DiagRef<'_, T>,
    vectors: Option<MatMut<'_, T>>,
) -> Result<Vec<f64>> {
    let n = diagonal.dim();
    let wanted = match vectors {
        Some(_) => ComputeEigenvectors::Yes,
        None => ComputeEigenvectors::No,
    };
    let mut values = Diag::zeros(n);
    let scratch = self_adjoint_evd_scratch::<T>(n, wanted, Par::Seq, Spec::default());
    let solved = tridiagonal_self_adjoint_evd(
        diagonal,
        below,
        values.as_mut(),
        vectors,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    );
    solved.map_err(|_| failed(n))?;
    Ok(numbers(values.as_ref()))
}

fn numbers<T: Real>(of: DiagRef<'_, T>) -> Vec<f64> {
    of.column_vector().iter().map(|x| x.to_f64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Divides down to 4 rows. Eigenvectors must be orthonormal, and T s = λ s, to some roundings of numbers as large as T;
    /// eigenvalues those of faer.
    fn check<T: Real>(diagonal: &[f64], below: &[f64], count: usize) {
        let n = diagonal.len();
        let Solution { values, vectors } = divide::<T>(diagonal.to_vec(), below, count, 4).unwrap();
        assert_eq!((values.len(), vectors.shape()), (n, (n, count)));
        let vectors = Mat::from_fn(n, count, |i, j| vectors[(i, j)].to_f64());
        let largest = diagonal
            .iter()
            .chain(below)
            .fold(0.0, |most: f64, x| most.max(x.abs()));
        let close = 100.0 * T::EPSILON * (1.0 + largest);
        let at = |i: usize, j: usize| match i.abs_diff(j) {
            0 => diagonal[i],
            1 => below[i.min(j)],
            _ => 0.0,
        };
        let one = vectors.transpose() * &vectors;
        let turned = Mat::from_fn(n, n, at) * &vectors;
        for j in 0..count {
            for i in 0..count {
                assert!((one[(i, j)] - f64::from(u8::from(i == j))).abs() < close);
            }
            let value = values[n - count + j];
            for i in 0..n {
                assert!((turned[(i, j)] - value * vectors[(i, j)]).abs() < close);
            }
        }
        let [mut d, mut b] = [Diag::zeros(n), Diag::zeros(n)];
        (0..n).for_each(|i| d[i] = diagonal[i]);
        (0..n - 1).for_each(|i| b[i] = below[i]);
        let expected = eigenvalues::<f64>(d.as_ref(), b.as_ref()).unwrap();
        for (found, expected) in values.iter().zip(expected) {
            assert!((found - expected).abs() < close, "{found} {expected}");
        }
    }

    fn check_both(diagonal: &[f64], below: &[f64]) {
        for count in [1, diagonal.len() / 3, diagonal.len()] {
            check::<f32>(diagonal, below, count);
            check::<f64>(diagonal, below, count);
        }
    }

    #[test]
    fn matrices_without_a_pattern() {
        for (seed, n) in [(1, 9), (2, 50), (3, 333)] {
            let numbers = Random(seed).matrix(2, n);
            let numbers: Vec<f64> = numbers.data().iter().map(|x| f64::from(*x)).collect();
            let (d, b) = numbers.split_at(n);
            check_both(d, &b[1..]);
        }
    }

    #[test]
    fn eigenvalues_that_are_the_same() {
        // Nothing beside the diagonal, all of it the same, second differences, and Wilkinson's, glued by little: pairs
        // that agree to many digits.
        check_both(&[0.25; 40], &[0.0; 39]);
        check_both(&[0.0; 40], &[0.0; 39]);
        check_both(&[0.5; 100], &[0.25; 99]);
        let wilkinson = |i: usize| (i % 21).abs_diff(10) as f64 / 10.0;
        let d: Vec<f64> = (0..105).map(wilkinson).collect();
        for glue in [0.0, 1e-14, 1e-9, 1e-4] {
            let b = |i: usize| if i.is_multiple_of(21) { glue } else { 0.1 };
            let b: Vec<f64> = (1..105).map(b).collect();
            check_both(&d, &b);
        }
    }

    #[test]
    fn elements_of_many_sizes_and_signs() {
        let d: Vec<f64> = (0..80).map(|i| 0.7_f64.powi(i)).collect();
        let b: Vec<f64> = (0..79).map(|i| (-0.6_f64).powi(i) / 3.0).collect();
        check_both(&d, &b);
        let reversed: Vec<f64> = d.iter().rev().map(|x| -x).collect();
        check_both(&reversed, &b);
    }

    #[test]
    fn a_part_that_is_far_smaller_than_the_rest() {
        for power in [-100, -340, -560, -900, -1060] {
            let scale = 2.0_f64.powi(power);
            let size = |i: usize| if i < 30 { 1.0 } else { scale };
            let d: Vec<f64> = (0..80).map(|i| size(i) * (i % 5) as f64).collect();
            let b: Vec<f64> = (0..79).map(|i| size(i + 1) * 0.5).collect();
            check_both(&d, &b);
        }
    }

    #[test]
    fn numbers_that_are_none_are_an_error() {
        let mut d = Diag::<f32>::zeros(WHOLE + 1);
        let b = Diag::zeros(WHOLE + 1);
        d[3] = f32::NAN;
        assert!(solve(d.as_ref(), b.as_ref(), 1).is_err());
    }

    #[test]
    fn matrices_of_any_scale() {
        let n = WHOLE + 10;
        let [mut d, mut b] = [Diag::<f64>::zeros(n), Diag::zeros(n)];
        let first = |scale: f64, d: &mut Diag<f64>, b: &mut Diag<f64>| {
            for i in 0..n {
                d[i] = scale * (i % 7) as f64;
                b[i] = scale;
            }
            let solution = solve(d.as_ref(), b.as_ref(), 1).unwrap();
            let bits = |x: f64| x.to_bits();
            let values = solution.values.iter().map(|x| bits(x / scale));
            (
                values.collect::<Vec<_>>(),
                bits(solution.vectors[(n / 2, 0)]),
            )
        };
        let whole = first(1.0, &mut d, &mut b);
        // Powers of two, which change no rounding.
        assert_eq!(first(2.0_f64.powi(-80), &mut d, &mut b), whole);
    }
}
