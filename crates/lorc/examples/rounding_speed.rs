//! How long it takes to round a made-up weight by GPTQ, and what it loses.
//!
//! ```sh
//! cargo run --release -p compress-lorc --example rounding_speed -- ROWS COLS REFINEMENTS [BITS [GROUP]]
//! ```
//!
//! H is that of inputs with a few strong directions. Prints the seconds that its factorisation takes, those of
//! the weight, and the error tr(R H Rᵀ) / tr(W H Wᵀ).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program to measure by"
)]

use std::{env, error::Error, fs, time::Instant};

use compress_core::{Bits, Scheme, testing::gram};
use compress_lorc::{DAMPING, Hessian, Quantizer, RoundingOptions, Scaling, quantise};
use compress_numerics::Random;
use compress_svd::Metric;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = env::args().skip(1).map(|x| x.parse());
    let arguments = arguments.collect::<Result<Vec<usize>, _>>()?;
    let &[rows, cols, refinements, ..] = arguments.as_slice() else {
        return Err("ROWS COLS REFINEMENTS [BITS [GROUP]]".into());
    };
    let bits = match arguments.get(3) {
        Some(2) => Bits::Two,
        Some(3) => Bits::Three,
        Some(8) => Bits::Eight,
        _ => Bits::Four,
    };
    let group = arguments.get(4).copied().unwrap_or(128);
    let weight = Random(1).matrix(rows, cols);
    let h = gram(cols, 64);
    let options = RoundingOptions {
        quantizer: Quantizer::Gptq,
        scaling: Scaling::Mse,
        refinements,
        ..RoundingOptions::nearest(Scheme::symmetric(bits, Some(group)))
    };
    let begin = (Instant::now(), cpu());
    let hessian = Hessian::new(h.clone(), DAMPING, false)?;
    println!("{rows}×{cols}: factorised in {}", since(begin));
    let begin = (Instant::now(), cpu());
    let quantised = quantise(&weight, Some(&hessian), &options)?;
    println!("rounded in {}", since(begin));
    if rows * cols * cols > 20_000_000_000 {
        return Ok(());
    }
    let metric = Metric::activation(h);
    let mut lost = quantised.dense();
    let pairs = lost.data_mut().iter_mut().zip(weight.data());
    pairs.for_each(|(x, w)| *x -= w);
    let (lost, all) = (metric.squared_norm(&lost)?, metric.squared_norm(&weight)?);
    println!("error {:.6e}", lost / all);
    Ok(())
}

/// Seconds of all threads; 0 where the system does not tell.
fn cpu() -> f64 {
    let told = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = told
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(11)?.parse().ok());
    ticks.unwrap_or(0.0) / 100.0
}

fn since((begin, before): (Instant, f64)) -> String {
    let seconds = begin.elapsed().as_secs_f64();
    format!("{seconds:.2} s, {:.2} s of all threads", cpu() - before)
}
