//! The routes to a truncated SVD: eigenvectors of the Gram matrix (ours), thin SVD, and a randomised
//! range finder, on matrices of the shapes of SmolLM2-135M at keep 0.8. Their errors are printed first.
//!
//! ```sh
//! cargo bench --bench factorise
//! ```

use std::hint::black_box;

use compress_core::{Matrix, Shape};
use compress_numerics::Random;
use compress_svd::truncate;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use faer::{Mat, MatRef};

/// A route: weight and rank to the best factors it finds, up and down.
type Route = fn(MatRef<'_, f32>, usize) -> (Mat<f32>, Mat<f32>);

fn routes(c: &mut Criterion) {
    for shape in [
        Shape::new(576, 576),
        Shape::new(192, 576),
        Shape::new(1536, 576),
        Shape::new(576, 1536),
    ] {
        let weight = Random(1).weight(shape);
        let rank = (0.8 * shape.break_even_rank()) as usize;
        let view = MatRef::from_row_major_slice(weight.data(), shape.rows, shape.cols);
        let mut group = c.benchmark_group(format!("{shape} at rank {rank}"));
        group.sample_size(10);
        let ours = truncate(&weight, rank).map(|cut| cut.dense());
        if let Ok(Ok(dense)) = ours {
            println!(
                "gram: relative squared error {:.6e}",
                dense.squared_distance(&weight) / weight.squared_norm()
            );
        }
        group.bench_function("gram", |b| b.iter(|| truncate(black_box(&weight), rank)));
        let others: [(&str, Route); 2] =
            [("thin svd", thin), ("randomised, 4 iterations", randomised)];
        for (name, route) in others {
            let (up, down) = route(view, rank);
            println!(
                "{name}: relative squared error {:.6e}",
                error(&weight, &up, &down)
            );
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| route(black_box(view), rank))
            });
        }
    }
}

fn thin(weight: MatRef<'_, f32>, rank: usize) -> (Mat<f32>, Mat<f32>) {
    match weight.thin_svd() {
        Ok(svd) => {
            let up =
                svd.U().subcols(0, rank) * svd.S().column_vector().subrows(0, rank).as_diagonal();
            (up, svd.V().subcols(0, rank).transpose().to_owned())
        }
        Err(_) => (
            Mat::zeros(weight.nrows(), rank),
            Mat::zeros(rank, weight.ncols()),
        ),
    }
}

/// Halko, Martinsson & Tropp 2011, with power iterations and eight extra directions.
fn randomised(weight: MatRef<'_, f32>, rank: usize) -> (Mat<f32>, Mat<f32>) {
    let mut random = Random(2);
    let mut basis = Mat::from_fn(weight.ncols(), rank + 8, |_, _| random.normal());
    for _ in 0..4 {
        let left = (weight * &basis).qr().compute_thin_Q();
        basis = (weight.transpose() * left).qr().compute_thin_Q();
    }
    let left = (weight * &basis).qr().compute_thin_Q();
    let small = left.transpose() * weight;
    let (up, down) = thin(small.as_ref(), rank);
    (left * up, down)
}

fn error(weight: &Matrix, up: &Mat<f32>, down: &Mat<f32>) -> f64 {
    let dense = up * down;
    let dense = Matrix::from_fn(weight.rows(), weight.cols(), |i, j| dense[(i, j)]);
    dense.squared_distance(weight) / weight.squared_norm()
}

criterion_group!(benches, routes);
criterion_main!(benches);
