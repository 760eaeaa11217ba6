//! Linear algebra gives the same bytes on any number of threads, and what it promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use compress_numerics::{
    Matrix, Random, Symmetric,
    linalg::{
        Cholesky, Double, InverseRoot, product, product_of_transposed, short_gram, singular_values,
    },
};

/// What some work gives on 1, 2, 3 and 8 threads, which is the same.
fn on_any_threads<T: PartialEq + Send>(work: impl Fn() -> T + Sync) -> T {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(&work)
    };
    let first = on(1);
    for threads in [2, 3, 8] {
        assert!(on(threads) == first, "{threads} threads");
    }
    first
}

/// X Xᵀ + 1, of n × k noise.
fn definite(n: usize, k: usize) -> Symmetric {
    let x = Random(n as u64).matrix(n, k);
    let full = Double::from(&x)
        .times_transposed(&Double::from(&x))
        .unwrap();
    let mut found = Symmetric::zeros(n);
    for (i, row) in found.rows_mut().enumerate() {
        row.iter_mut()
            .enumerate()
            .for_each(|(j, x)| *x = full.column(j)[i]);
    }
    found.plus_diagonal(1.0)
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn spectra_and_factors_have_the_same_bytes() {
    let wide = Random(1).matrix(1024, 1030);
    on_any_threads(|| bits(&singular_values(&wide).unwrap()));
    let small = Random(2).matrix(200, 300);
    on_any_threads(|| {
        let eigen = short_gram::<f32>(&small).top_eigenvectors(50).unwrap();
        (bits(&eigen.values), eigen.vectors.data().to_vec())
    });
}

#[test]
fn large_decompositions_have_the_same_bytes_and_are_right() {
    // Large enough to be reduced by panels, whose number does not end at the matrix's.
    let (n, count) = (1250, 300);
    let w = Random(8).matrix(n, n);
    on_any_threads(|| {
        let eigen = short_gram::<f32>(&w).top_eigenvectors(count).unwrap();
        (bits(&eigen.values), eigen.vectors.data().to_vec())
    });
    let a = definite(n, n + 50);
    let (values, vectors) = Double::from(&a).top_eigenvectors(count).unwrap();
    assert_eq!((values.len(), vectors.cols()), (n, count));
    // Vᵀ V = 1, Vᵀ A = Λ Vᵀ, and the trace is the sum of the eigenvalues.
    let one = vectors.transposed_times(&vectors).unwrap();
    let turned = vectors.transposed().times_symmetric(&a).unwrap();
    for (j, value) in values.iter().enumerate().take(count) {
        for (i, x) in one.column(j).iter().enumerate() {
            assert!((x - f64::from(u8::from(i == j))).abs() < 1e-12);
        }
        for (i, x) in vectors.column(j).iter().enumerate() {
            assert!((turned.column(i)[j] - value * x).abs() < 1e-9);
        }
    }
    let (trace, sum) = (a.diagonal().sum::<f64>(), values.iter().sum::<f64>());
    assert!((trace - sum).abs() < 1e-10 * trace);
}

#[test]
fn products_have_the_same_bytes() {
    let (a, b) = (Random(3).matrix(1100, 700), Random(4).matrix(700, 1300));
    on_any_threads(|| product(&a, &b).unwrap().data().to_vec());
    on_any_threads(|| product_of_transposed(&a, &a).unwrap().data().to_vec());
    let (x, h) = (
        Double::from(&Random(5).matrix(300, 1024)),
        definite(1024, 8),
    );
    on_any_threads(|| bits(&x.times_symmetric(&h).unwrap().row_major()));
}

#[test]
fn cholesky_has_the_same_bytes_and_solves() {
    for n in [1, 2, 255, 256, 257, 600, 1024] {
        let (a, x) = (definite(n, 40), Random(6).matrix(70, n));
        let x = Double::from(&x);
        let right = x.times_symmetric(&a).unwrap().row_major();
        let solved = on_any_threads(|| {
            let mut sides = right.clone();
            Cholesky::new(a.clone()).unwrap().solve(&mut sides);
            bits(&sides)
        });
        let pairs = solved.iter().map(|&x| f64::from_bits(x));
        for (found, expected) in pairs.zip(x.row_major()) {
            assert!((found - expected).abs() < 1e-9, "{n}: {found} {expected}");
        }
    }
}

#[test]
fn the_root_times_a_matrix_has_the_norm_that_the_matrix_gives_it() {
    for n in [5, 300, 700] {
        let (a, x) = (definite(n, 20), Double::from(&Random(7).matrix(n, 3)));
        let root = on_any_threads(|| {
            let factor = Cholesky::new(a.clone()).unwrap();
            factor.root_times(&x).unwrap().row_major()
        });
        let found: f64 = root.iter().map(|x| x * x).sum();
        let weighted = x.transposed().times_symmetric(&a).unwrap();
        let expected = weighted.times(&x).unwrap();
        let expected: f64 = (0..3).map(|i| expected.column(i)[i]).sum();
        assert!((found - expected).abs() < 1e-12 * expected.abs());
    }
}

#[test]
fn the_root_of_the_inverse_is_one_and_the_matrix_is_still_there() {
    for n in [1, 3, 256, 257, 600, 1024] {
        let a = definite(n, 50);
        let rows = on_any_threads(|| {
            let root = InverseRoot::new(a.clone()).unwrap();
            assert!(root.diagonal.iter().copied().eq(a.diagonal()));
            let mut rows = vec![Vec::new(); n];
            root.into_rows(|i, row| rows[i] = row.to_vec());
            rows
        });
        let mut root = Matrix::zeros(n, n); // U
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(row[..i], a.row(i)[..i]);
            for (j, x) in row.iter().enumerate().skip(i) {
                root.data_mut()[i * n + j] = *x as f32;
            }
        }
        // U A Uᵀ = 1
        let u = Double::from(&root);
        let one = u.times_symmetric(&a).unwrap().times_transposed(&u).unwrap();
        for j in 0..n {
            for (i, x) in one.column(j).iter().enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((x - expected).abs() < 1e-3, "{n}: {i} {j} {x}");
            }
        }
    }
}

#[test]
fn what_is_not_definite_is_given_back_as_it_was() {
    for n in [1, 40, 300, 520] {
        let mut a = definite(n, 30);
        // The last element to be eliminated, whichever end that is at, and one in the middle.
        for place in [0, n / 2, n - 1] {
            let whole = a.clone();
            let damaged = a.diagonal_mut().nth(place).unwrap();
            *damaged = -1.0;
            assert!(Cholesky::new(a.clone()).is_err());
            let same = on_any_threads(|| InverseRoot::new(a.clone()).unwrap_err().0);
            assert_eq!(same, a);
            a = whole;
        }
    }
}
