//! Factorising and rounding: shapes of a model of 7B and of SmolLM2-135M, and what each loses.
//!
//! ```sh
//! cargo bench --bench factorise
//! ```
//!
//! Ours takes eigenvectors of the Gram matrix of the shorter side. Beside it are, on smaller shapes, faer's thin SVD and a
//! randomised range finder; on all shapes with `COMPRESS_BENCH=all`, which takes an hour. GPTQ has an H of made-up
//! inputs, which is factorised beforehand.

#[allow(dead_code, reason = "shared with benches that use the rest")]
mod common;

use std::{cell::LazyCell, hint::black_box};

use common::{Bench, Group};
use compress_core::{Bits, Matrix, Scheme, Shape, testing::gram};
use compress_lorc::{DAMPING, Hessian, Quantizer, RoundingOptions, Scaling, round};
use compress_numerics::{Random, kernels::multiply_rows, linalg::product, side_by_side};
use compress_svd::{Metric, truncate};
use faer::{Mat, MatRef};

const CPU: &str = "cpu";
const ERROR: &str = "relative squared error";

/// Shapes, out × in, and ranks: 40 % of the shorter side of a 7B model's, 80 % of SmolLM2's parameters.
const SHAPES: [(Shape, usize); 6] = [
    (Shape::new(576, 576), 230),
    (Shape::new(192, 576), 115),
    (Shape::new(1536, 576), 335),
    (Shape::new(1024, 4096), 409),
    (Shape::new(4096, 4096), 1638),
    (Shape::new(4096, 11008), 1638),
];

/// The shorter side up to which other decompositions, and the inputs up to which H, are a matter of seconds.
const SMALL: usize = 1024;
const FEW_INPUTS: usize = 4096;

fn main() {
    common::run("factorise", |bench| {
        machine(bench);
        for (shape, rank) in SHAPES {
            measure(bench, shape, rank);
        }
    });
}

/// The rates that docs/PERFORMANCE.md holds all others against: 2 · 2048³ operations of a product of matrices, and the
/// reading of 512 MiB, each by all cores.
fn machine(bench: &mut Bench) {
    let mut group = bench.group("the machine");
    let shape = Shape::new(2048, 2048);
    let (a, b) = (Random(1).weight(shape), Random(2).weight(shape));
    group.time(("product of 2048×2048", CPU), "time", None, |bencher| {
        bencher.iter(|| product(black_box(&a), &b));
    });
    let x = vec![1.0; 1 << 12];
    group.time(("reading 512 MiB", CPU), "time", None, |bencher| {
        let (numbers, parts) = (vec![1.0_f32; 1 << 27], 16);
        bencher.iter(|| {
            side_by_side(parts, usize::MAX, |part| {
                let rows = &numbers[part * numbers.len() / parts..][..numbers.len() / parts];
                let mut sums = vec![0.0; rows.len() / x.len()];
                multiply_rows(rows, &x, &mut sums);
                Ok::<_, ()>(black_box(sums))
            })
        });
    });
}

fn measure(bench: &mut Bench, shape: Shape, rank: usize) {
    let subject = shape.to_string();
    let mut group = bench.group(&subject);
    let weight = Random(1).weight(shape);
    decompose(&mut group, &weight, rank);
    quantise(&mut group, &weight);
}

/// A route to factors, up and down, of a weight at a rank.
type Route = fn(MatRef<'_, f32>, usize) -> (Mat<f32>, Mat<f32>);

fn decompose(group: &mut Group<'_>, weight: &Matrix, rank: usize) {
    let shape = weight.shape();
    let form = format!("svd rank {rank}");
    let mut found = None;
    group.time((&form, CPU), "time", None, |bencher| {
        bencher.iter(|| found = Some(truncate(black_box(weight), rank)));
    });
    if let Some(Ok(Ok(dense))) = found.map(|cut| cut.map(|cut| cut.dense())) {
        let error = dense.squared_distance(weight) / weight.squared_norm();
        group.value((&form, CPU), ERROR, error);
    }
    if shape.rows.min(shape.cols) > SMALL && !common::all() {
        return;
    }
    let view = MatRef::from_row_major_slice(weight.data(), shape.rows, shape.cols);
    let others: [(&str, Route); 2] = [("faer thin svd", thin), ("randomised svd", randomised)];
    for (name, route) in others {
        let form = format!("{name} rank {rank}");
        let mut found = None;
        group.time((&form, CPU), "time", None, |bencher| {
            bencher.iter(|| found = Some(route(black_box(view), rank)));
        });
        if let Some((up, down)) = found {
            group.value((&form, CPU), ERROR, error(weight, &up, &down));
        }
    }
}

fn quantise(group: &mut Group<'_>, weight: &Matrix) {
    let nearest = RoundingOptions::nearest(Scheme::symmetric(Bits::Four, Some(32)));
    let searched = RoundingOptions {
        scaling: Scaling::Mse,
        ..nearest
    };
    let gptq = RoundingOptions {
        quantizer: Quantizer::Gptq,
        ..nearest
    };
    rounding(group, weight, "int4 nearest", &nearest);
    rounding(group, weight, "int4 nearest searched", &searched);
    if weight.cols() <= FEW_INPUTS || common::all() {
        rounding(group, weight, "int4 gptq", &gptq);
    }
}

/// Times a way to round a weight, and says what it loses: the plain error, which GPTQ lets grow where H is small.
fn rounding(group: &mut Group<'_>, weight: &Matrix, form: &str, options: &RoundingOptions) {
    // Made for the first run only, and not timed. Without it the run fails, and says so.
    let hessian = LazyCell::new(|| {
        let wanted = options.needs_hessian().then(|| gram(weight.cols(), 16))?;
        Hessian::new(wanted, DAMPING, false).ok()
    });
    let run = |weight| round(weight, hessian.as_ref(), &Metric::PLAIN, options);
    let mut found = None;
    group.time((form, CPU), "time", None, |bencher| {
        LazyCell::force(&hessian);
        bencher.iter(|| found = Some(run(black_box(weight))));
    });
    match found {
        Some(Ok(rounded)) => group.value((form, CPU), ERROR, rounded.error),
        Some(Err(error)) => group.skip(form, error),
        None => (),
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

/// Halko, Martinsson & Tropp 2011, with four power iterations and eight extra directions.
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
