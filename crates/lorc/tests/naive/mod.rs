//! Rounding and GPTQ as one would write them down: one number after the other, inverses and all.

use compress_core::{Matrix, Scheme, Symmetric, f16};

/// Scale and zero point that cover some numbers.
fn grid(scheme: Scheme, numbers: &[f32]) -> (f32, f32) {
    let (low, high) = (
        f32::from(scheme.bits.least()),
        f32::from(scheme.bits.greatest()),
    );
    let least = numbers.iter().copied().fold(0.0, f32::min);
    let greatest = numbers.iter().copied().fold(0.0, f32::max);
    let steps = high - low;
    if scheme.symmetric {
        (
            f16::from_f32(greatest.max(-least) / (steps / 2.0)).to_f32(),
            0.0,
        )
    } else {
        let scale = f16::from_f32((greatest - least) / steps).to_f32();
        (
            scale,
            (low - least / scale).round_ties_even().clamp(low, high),
        )
    }
}

fn value(scheme: Scheme, (scale, zero): (f32, f32), w: f64) -> f64 {
    let (low, high) = (
        f64::from(scheme.bits.least()),
        f64::from(scheme.bits.greatest()),
    );
    let (scale, zero) = (f64::from(scale), f64::from(zero));
    let code = (w / scale).round_ties_even() + zero;
    (code.clamp(low, high) - zero) * scale
}

pub fn nearest(weight: &Matrix, scheme: Scheme) -> Matrix {
    let mut out = weight.clone();
    for group in out
        .data_mut()
        .chunks_exact_mut(scheme.group_of(weight.cols()))
    {
        let grid = grid(scheme, group);
        group
            .iter_mut()
            .for_each(|w| *w = value(scheme, grid, f64::from(*w)) as f32);
    }
    out
}

/// Column by column with the upper Cholesky factor of the inverse; row after row.
pub fn gptq(weight: &Matrix, h: &Symmetric, scheme: Scheme) -> Vec<f64> {
    let n = weight.cols();
    let mean = h.trace() / n as f64;
    let at = |i: usize, j: usize| h.at(i, j) + if i == j { 0.01 * mean } else { 0.0 };
    let inverse = inverse((0..n).map(|i| (0..n).map(|j| at(i, j)).collect()).collect());
    let u = upper(&inverse);
    let mut out = Vec::new();
    for row in weight.data().chunks_exact(n) {
        let mut w: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let mut now = (1.0, 0.0);
        for j in 0..n {
            let group = scheme.group_of(n);
            if j % group == 0 {
                let numbers: Vec<f32> = w[j..j + group].iter().map(|&x| x as f32).collect();
                now = grid(scheme, &numbers);
            }
            let q = value(scheme, now, w[j]);
            let error = (w[j] - q) / u[j][j];
            (j + 1..n).for_each(|k| w[k] -= error * u[j][k]);
            out.push(q);
        }
    }
    out
}

/// By Gauss and Jordan; positive definite, so that no pivot is searched.
fn inverse(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for i in 0..n {
        let pivot = a[i][i];
        a[i].iter_mut().for_each(|x| *x /= pivot);
        let row = a[i].clone();
        for (k, other) in a.iter_mut().enumerate() {
            let by = if k == i { 0.0 } else { other[i] };
            other.iter_mut().zip(&row).for_each(|(x, y)| *x -= by * y);
        }
    }
    a.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// The upper triangular U with Uᵀ U = a.
fn upper(a: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut u = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in i..n {
            let sum: f64 = (0..i).map(|k| u[k][i] * u[k][j]).sum();
            u[i][j] = if i == j {
                (a[i][i] - sum).sqrt()
            } else {
                (a[i][j] - sum) / u[i][i]
            };
        }
    }
    u
}
