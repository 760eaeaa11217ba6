//! Rounding, GPTQ and compensation obey their laws, and agree with a naive program.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

mod naive;

use compress_core::{Bits, Matrix, Quantised, Scheme, Shape, Symmetric};
use compress_lorc::{
    DAMPING, Hessian, Keep, Quantizer, Rounded, RoundingOptions, Scaling, quantise, round,
};
use compress_numerics::{Random, linalg::product};
use compress_svd::Metric;
use proptest::prelude::*;

const SCALINGS: [Scaling; 2] = [Scaling::AbsMax, Scaling::Mse];

fn four(group: usize) -> Scheme {
    Scheme::symmetric(Bits::Four, Some(group))
}

/// Every scheme of some groups.
fn schemes(groups: &[Option<usize>]) -> Vec<Scheme> {
    let all = |group: Option<usize>| {
        Bits::ALL.into_iter().flat_map(move |bits| {
            [true, false].map(|symmetric| Scheme {
                bits,
                group,
                symmetric,
            })
        })
    };
    groups.iter().copied().flat_map(all).collect()
}

/// How codes are chosen, without a correction.
fn how(
    scheme: Scheme,
    quantizer: Quantizer,
    scaling: Scaling,
    refinements: usize,
) -> RoundingOptions {
    RoundingOptions {
        quantizer,
        scaling,
        refinements,
        ..RoundingOptions::nearest(scheme)
    }
}

fn prepared(h: &Symmetric) -> Hessian {
    Hessian::new(h.clone(), DAMPING, false).unwrap()
}

fn error(h: &Symmetric, weight: &Matrix, quantised: &Quantised) -> f64 {
    let mut lost = quantised.dense();
    let pairs = lost.data_mut().iter_mut().zip(weight.data());
    pairs.for_each(|(x, w)| *x -= w);
    Metric::activation(h.clone()).squared_norm(&lost).unwrap()
}

fn dense(rounded: &Rounded) -> Matrix {
    let mut dense = rounded.quantised.dense();
    if let (Some(up), Some(down)) = (&rounded.up, &rounded.down) {
        let term = product(up, down).unwrap();
        let pairs = dense.data_mut().iter_mut().zip(term.data());
        pairs.for_each(|(x, y)| *x += y);
    }
    dense
}

#[test]
fn rank_zero_is_round_to_nearest() {
    let weight = Random(1).matrix(20, 96);
    for scheme in schemes(&[Some(32), Some(24), None]) {
        let rounded = round(
            &weight,
            None,
            &Metric::PLAIN,
            &RoundingOptions::nearest(scheme),
        )
        .unwrap();
        assert!(rounded.up.is_none() && rounded.down.is_none());
        let expected = naive::nearest(&weight, scheme);
        assert_eq!(rounded.quantised.dense(), expected, "{scheme}");
        let error = expected.squared_distance(&weight) / weight.squared_norm();
        assert!((rounded.error - error).abs() < 1e-12);
    }
}

#[test]
fn gptq_in_products_of_blocks_is_gptq_column_by_column() {
    let mut random = Random(2);
    for (rows, cols, group) in [
        (9, 64, Some(32)),
        (300, 96, Some(8)),
        (5, 90, Some(18)),
        (7, 150, None),
    ] {
        let (weight, h) = (random.matrix(rows, cols), random.gram(cols));
        for bits in [Bits::Two, Bits::Three, Bits::Four] {
            let scheme = Scheme::symmetric(bits, group);
            let options = how(scheme, Quantizer::Gptq, Scaling::AbsMax, 0);
            let ours = quantise(&weight, Some(&prepared(&h)), &options).unwrap();
            let theirs = naive::gptq(&weight, &h, scheme);
            let ours: Vec<f64> = ours.dense().data().iter().copied().map(f64::from).collect();
            assert_eq!(ours, theirs, "{rows}×{cols} {scheme}");
        }
    }
}

#[test]
fn under_the_identity_gptq_is_round_to_nearest() {
    let weight = Random(3).matrix(12, 64);
    for order in [false, true] {
        let even = Symmetric::zeros(64).plus_diagonal(3.0);
        let hessian = Hessian::new(even, DAMPING, order).unwrap();
        for scheme in schemes(&[Some(16), None]) {
            for scaling in SCALINGS {
                let with = |quantizer| {
                    quantise(&weight, Some(&hessian), &how(scheme, quantizer, scaling, 0)).unwrap()
                };
                assert_eq!(with(Quantizer::Gptq), with(Quantizer::Nearest), "{scheme}");
            }
        }
    }
}

#[test]
fn where_inputs_already_come_in_order_the_order_changes_nothing() {
    let mut random = Random(11);
    let weight = random.matrix(12, 48);
    let mut h = random.gram(48);
    for (i, row) in h.rows_mut().enumerate() {
        row[i] = 1000.0 - i as f64;
    }
    for scaling in SCALINGS {
        let options = how(
            Scheme::symmetric(Bits::Three, None),
            Quantizer::Gptq,
            scaling,
            0,
        );
        let with = |order| {
            let hessian = Hessian::new(h.clone(), DAMPING, order).unwrap();
            quantise(&weight, Some(&hessian), &options).unwrap()
        };
        assert_eq!(with(true), with(false));
    }
}

#[test]
fn gptq_loses_less_than_rounding_and_refinement_less_still() {
    let mut random = Random(4);
    let (weight, h) = (random.matrix(30, 64), random.gram(64));
    for order in [false, true] {
        let hessian = Hessian::new(h.clone(), DAMPING, order).unwrap();
        for scheme in schemes(&[Some(16), Some(64)]) {
            for scaling in SCALINGS {
                let lost = |quantizer, refinements| {
                    let options = how(scheme, quantizer, scaling, refinements);
                    error(
                        &h,
                        &weight,
                        &quantise(&weight, Some(&hessian), &options).unwrap(),
                    )
                };
                let nearest = lost(Quantizer::Nearest, 0);
                let gptq = lost(Quantizer::Gptq, 0);
                assert!(gptq < nearest, "{scheme}: {gptq} {nearest}");
                // The refinement is by the damped H, hence the margin.
                assert!(lost(Quantizer::Gptq, 1) < 1.02 * gptq, "{scheme}");
                assert!(
                    lost(Quantizer::Gptq, 3) < 1.02 * lost(Quantizer::Gptq, 1),
                    "{scheme}"
                );
                assert!(lost(Quantizer::Nearest, 3) < nearest, "{scheme}");
            }
        }
    }
}

#[test]
fn a_searched_scale_loses_no_more_than_a_covering_one() {
    let weight = Random(5).matrix(30, 64);
    for scheme in schemes(&[Some(16), None]) {
        let lost = |scaling| {
            let options = RoundingOptions {
                scaling,
                ..RoundingOptions::nearest(scheme)
            };
            round(&weight, None, &Metric::PLAIN, &options)
                .unwrap()
                .error
        };
        assert!(lost(Scaling::Mse) <= lost(Scaling::AbsMax), "{scheme}");
    }
}

#[test]
fn more_rank_never_hurts_and_full_rank_gives_the_weight_back() {
    let mut random = Random(6);
    let (weight, h) = (random.matrix(24, 32), random.gram(32));
    let hessian = prepared(&h);
    for metric in [Metric::PLAIN, Metric::activation(h.clone())] {
        for quantizer in [Quantizer::Nearest, Quantizer::Gptq] {
            for keep in [Keep::Half, Keep::Int8] {
                let of = |rank| {
                    let options = RoundingOptions {
                        rank,
                        quantizer,
                        keep,
                        ..RoundingOptions::nearest(Scheme::symmetric(Bits::Two, Some(16)))
                    };
                    round(&weight, Some(&hessian), &metric, &options).unwrap()
                };
                let mut last = f64::INFINITY;
                for rank in 0..=24 {
                    let error = of(rank).error;
                    // What the factors' format cannot resolve is not held against more of them.
                    let rounding = if keep == Keep::Half { 1e-6 } else { 1e-4 };
                    assert!(
                        error <= last + rounding,
                        "rank {rank}: {error} after {last}"
                    );
                    last = error;
                }
                let limit = if keep == Keep::Half { 1e-6 } else { 1e-4 };
                assert!(last < limit, "{last}");
            }
        }
    }
}

#[test]
fn more_bits_never_hurt() {
    let mut random = Random(7);
    let (weight, h) = (random.matrix(24, 32), random.gram(32));
    let hessian = prepared(&h);
    for quantizer in [Quantizer::Nearest, Quantizer::Gptq] {
        for scaling in SCALINGS {
            for symmetric in [true, false] {
                let of = |bits| {
                    let options = RoundingOptions {
                        quantizer,
                        scaling,
                        rank: 2,
                        ..RoundingOptions::nearest(Scheme {
                            bits,
                            group: Some(16),
                            symmetric,
                        })
                    };
                    let metric = Metric::activation(h.clone());
                    round(&weight, Some(&hessian), &metric, &options)
                        .unwrap()
                        .error
                };
                let errors = Bits::ALL.map(of);
                assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
            }
        }
    }
}

#[test]
fn alternating_never_hurts_and_the_error_is_that_of_what_is_stored() {
    let mut random = Random(8);
    let (weight, h) = (random.matrix(24, 32), random.gram(32));
    let hessian = prepared(&h);
    let metric = Metric::activation(h.clone());
    let mut last = f64::INFINITY;
    for alternations in 0..4 {
        let options = RoundingOptions {
            quantizer: Quantizer::Gptq,
            scaling: Scaling::Mse,
            rank: 3,
            alternations,
            ..RoundingOptions::nearest(Scheme::symmetric(Bits::Two, None))
        };
        let rounded = round(&weight, Some(&hessian), &metric, &options).unwrap();
        assert!(rounded.error <= last);
        last = rounded.error;
        let mut lost = dense(&rounded);
        let pairs = lost.data_mut().iter_mut().zip(weight.data());
        pairs.for_each(|(x, w)| *x -= w);
        let measured = metric.squared_norm(&lost).unwrap() / metric.squared_norm(&weight).unwrap();
        assert!(
            (measured - last).abs() < 1e-6 * last,
            "{measured} is not {last}"
        );
        for factor in [rounded.up.unwrap(), rounded.down.unwrap()] {
            let halves = factor
                .data()
                .iter()
                .map(|&x| compress_core::f16::from_f32(x).to_f32());
            assert!(halves.eq(factor.data().iter().copied()));
        }
    }
}

#[test]
fn zeros_outliers_and_unused_inputs_are_no_obstacle() {
    let mut random = Random(9);
    let mut weight = random.matrix(16, 64);
    weight.data_mut()[..64].fill(0.0); // a row of zeros
    weight.data_mut()[64..96].fill(0.0); // a group of zeros
    weight.data_mut()[128..192]
        .iter_mut()
        .for_each(|x| *x *= 1e4);
    // Three directions are all that the data ever used, and input 5 was never used.
    let mut h = Symmetric::zeros(64);
    for _ in 0..3 {
        let x: Vec<f64> = (0..64)
            .map(|i| {
                if i == 5 {
                    0.0
                } else {
                    f64::from(random.normal())
                }
            })
            .collect();
        for (row, a) in h.rows_mut().zip(&x) {
            row.iter_mut().zip(&x).for_each(|(sum, b)| *sum += a * b);
        }
    }
    for h in [h, Symmetric::zeros(64)] {
        for (damping, order) in [(DAMPING, false), (DAMPING, true), (0.0, false)] {
            let hessian = Hessian::new(h.clone(), damping, order).unwrap();
            for scheme in schemes(&[Some(32), None]) {
                for scaling in SCALINGS {
                    let options = RoundingOptions {
                        quantizer: Quantizer::Gptq,
                        scaling,
                        refinements: 2,
                        rank: 2,
                        alternations: 1,
                        ..RoundingOptions::nearest(scheme)
                    };
                    let rounded = round(&weight, Some(&hessian), &Metric::PLAIN, &options).unwrap();
                    assert!(rounded.error.is_finite());
                    let codes = rounded.quantised.dense();
                    assert!(codes.first_non_finite().is_none());
                    assert_eq!(
                        &codes.data()[5],
                        &0.0,
                        "{scheme}: an unused input of no weight"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let mut random = Random(10);
    let (weight, h) = (random.matrix(300, 48), random.gram(48));
    let hessian = prepared(&h);
    let options = how(four(16), Quantizer::Gptq, Scaling::Mse, 2);
    let all = quantise(&weight, Some(&hessian), &options).unwrap();
    let few = Matrix::new(10, 48, weight.data()[250 * 48..260 * 48].to_vec()).unwrap();
    let few = quantise(&few, Some(&hessian), &options).unwrap();
    let (all, few) = (all.codes(), few.codes());
    let pairs = all.iter().skip(250 * 48).zip(&few);
    let differ = pairs.filter(|(a, b)| a != b).count();
    assert!(differ <= 2, "{differ} of 480 codes differ"); // by the rounding of sums in another order
}

#[test]
fn what_does_not_fit_or_was_not_measured_is_refused() {
    let weight = Matrix::zeros(4, 288);
    let plain = |options| round(&weight, None, &Metric::PLAIN, &options);
    let error = plain(RoundingOptions::nearest(four(64)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("groups of 64 do not divide the 288 inputs"),
        "{error}"
    );
    assert!(error.contains("72, 96, 144"), "{error}");
    let error = round(
        &Matrix::zeros(4, 576),
        None,
        &Metric::PLAIN,
        &RoundingOptions::nearest(four(128)),
    );
    assert!(error.unwrap_err().to_string().contains("96, 144, 192"));
    let hessian = prepared(&Random(1).gram(32));
    assert!(
        round(
            &weight,
            Some(&hessian),
            &Metric::PLAIN,
            &RoundingOptions::nearest(four(32))
        )
        .is_err()
    );
    for (quantizer, refinements) in [(Quantizer::Gptq, 0), (Quantizer::Nearest, 1)] {
        let options = how(four(32), quantizer, Scaling::AbsMax, refinements);
        let told = plain(options).unwrap_err().to_string();
        assert!(told.contains("calibration text"), "{told}");
    }
    let too_much = RoundingOptions {
        rank: 5,
        ..RoundingOptions::nearest(four(32))
    };
    assert!(plain(too_much).is_err());
}

proptest! {
    #[test]
    fn no_weight_is_further_from_its_value_than_a_step(
        seed in 0_u64..1000, rows in 1_usize..6, groups in 1_usize..4, group in 1_usize..20, scale in -6..4,
    ) {
        let cols = groups * group;
        let size = 10_f32.powi(scale);
        let mut weight = Random(seed).matrix(rows, cols);
        weight.data_mut().iter_mut().for_each(|x| *x *= size);
        for scheme in schemes(&[Some(group)]) {
            let options = RoundingOptions::nearest(scheme);
            let rounded = round(&weight, None, &Metric::PLAIN, &options).unwrap();
            let values = rounded.quantised.dense();
            for (i, (value, w)) in values.data().iter().zip(weight.data()).enumerate() {
                let step = rounded.quantised.scales()[i / group].to_f32();
                // The end of a symmetric grid is half a step nearer to 0, that of one with a zero point
                // up to half a step off; scales have eleven bits, or fewer where they are tiny.
                let slack = 0.5 + 0.502 + f32::from(scheme.bits.steps()) * (2e-3 + 3e-8 / step);
                prop_assert!((value - w).abs() <= slack * step, "{scheme}: {value} for {w}, step {step}");
            }
        }
    }

    #[test]
    fn refining_never_increases_the_error(seed in 0_u64..1000, rows in 1_usize..8, groups in 1_usize..4) {
        let mut random = Random(seed);
        let cols = 12 * groups;
        let (weight, h) = (random.matrix(rows, cols), random.gram(cols));
        let hessian = Hessian::new(h.clone(), 0.0, false).unwrap();
        for bits in [Bits::Two, Bits::Three] {
            let scheme = Scheme::symmetric(bits, Some(12));
            let lost = |refinements| {
                let options = how(scheme, Quantizer::Gptq, Scaling::AbsMax, refinements);
                error(&h, &weight, &quantise(&weight, Some(&hessian), &options).unwrap())
            };
            let errors = [0, 1, 2, 5].map(lost);
            let norm = Metric::activation(h.clone()).squared_norm(&weight).unwrap();
            prop_assert!(errors.is_sorted_by(|a, b| a + 1e-9 * norm >= *b), "{errors:?}");
        }
    }
}

#[test]
fn a_correction_costs_what_its_factors_take() {
    let shape = Shape::new(64, 32);
    assert_eq!(
        Keep::Half.bits_per_weight(shape, 2),
        16.0 * 2.0 * 96.0 / 2048.0
    );
    assert_eq!(
        Keep::Int8.bits_per_weight(shape, 2),
        (8.0 * 2.0 * 96.0 + 64.0) / 2048.0
    );
}
