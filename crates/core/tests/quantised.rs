//! A quantised weight gives back what it was made of, and refuses what does not fit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use compress_core::{Bits, Quantised, Scheme, Shape, f16};
use compress_numerics::{Random, linalg::Slab, packed::product_of_packed};

fn example(
    bits: Bits,
    shape: Shape,
    group: Option<usize>,
    symmetric: bool,
) -> (Quantised, Vec<i8>) {
    let mut random = Random(shape.size() as u64 + bits.count() as u64);
    let mut any = |count| -> Vec<i8> {
        let mut one = || random.uniform() * f32::from(1 + u16::from(bits.steps()));
        (0..count)
            .map(|_| (one() as i16 + i16::from(bits.least())) as i8)
            .collect()
    };
    let scheme = Scheme {
        bits,
        group,
        symmetric,
    };
    let groups = shape.rows * scheme.groups(shape.cols);
    let codes = any(shape.size());
    let zeros = if symmetric { Vec::new() } else { any(groups) };
    let scales = (0..groups)
        .map(|i| f16::from_f32(0.25 * i as f32 - 1.0))
        .collect();
    (
        Quantised::from_codes(shape, scheme, &codes, scales, zeros).unwrap(),
        codes,
    )
}

#[test]
fn what_is_packed_is_unpacked_for_all_bits_and_ragged_sizes() {
    for bits in Bits::ALL {
        for (rows, cols) in [(1, 1), (3, 7), (5, 33), (33, 10), (2, 96), (4, 43)] {
            for symmetric in [true, false] {
                let (weight, codes) = example(bits, Shape::new(rows, cols), None, symmetric);
                assert_eq!(weight.codes(), codes);
                for (i, &code) in codes.iter().enumerate() {
                    assert_eq!(weight.code(i / cols, i % cols), Some(code));
                }
                assert_eq!(weight.code(0, cols), None);
                assert_eq!(weight.code(rows, 0), None);
                let (shape, scheme) = (weight.shape(), weight.scheme());
                if !symmetric {
                    let zeros = Quantised::unpack_zeros(shape, scheme, &weight.packed_zeros());
                    assert_eq!(zeros.unwrap(), weight.zeros());
                }
                let parts = 4 * (weight.words().len() + weight.packed_zeros().len());
                assert_eq!(weight.bytes(), parts + 2 * weight.scales().len() + 16);
            }
        }
    }
}

#[test]
fn scales_that_half_precision_does_not_have_are_kept_and_multiplied_by() {
    let (weight, codes) = example(Bits::Four, Shape::new(20, 96), Some(32), false);
    let halves: Vec<f32> = weight.scales().iter().map(|scale| scale.to_f32()).collect();
    let same = weight.clone().with_fine_scales(halves).unwrap();
    assert_eq!(same, weight);
    let fine: Vec<f32> = (0..60).map(|i| 1e-9 * (1.0 + i as f32 / 7.0)).collect();
    let weight = weight.with_fine_scales(fine.clone()).unwrap();
    assert_eq!(weight.fine_scales(), fine);
    let value = |(i, &code): (usize, &i8)| {
        (f32::from(code) - f32::from(weight.zeros()[i / 32])) * fine[i / 32]
    };
    let values: Vec<f32> = codes.iter().enumerate().map(value).collect();
    assert_eq!(weight.dense().data(), values);
    let x: Vec<f32> = (0..96).map(|i| 1.0 - 0.01 * i as f32).collect();
    for rows in [1, 12] {
        let x = x.repeat(rows);
        let slab = Slab::new(&x, Shape::new(rows, 96)).unwrap();
        let product = product_of_packed(slab, weight.packed().unwrap()).unwrap();
        for (y, row) in product.iter().zip(values.chunks_exact(96).cycle()) {
            let exact: f64 = row
                .iter()
                .zip(&x)
                .map(|(&w, &x)| f64::from(w) * f64::from(x))
                .sum();
            let size: f64 = row.iter().map(|&w| f64::from(w).abs()).sum();
            assert!(
                (f64::from(*y) - exact).abs() < 1e-6 * size,
                "{y} for {exact}"
            );
        }
    }
    assert!(weight.clone().with_fine_scales(vec![1.0; 59]).is_err());
    assert!(weight.with_fine_scales(vec![f32::NAN; 60]).is_err());
}

#[test]
fn values_are_codes_less_the_zero_point_times_the_scale() {
    let (weight, codes) = example(Bits::Three, Shape::new(4, 12), Some(4), false);
    let dense = weight.dense();
    for (i, &code) in codes.iter().enumerate() {
        let zero = f32::from(weight.zeros()[i / 4]);
        let value = (f32::from(code) - zero) * weight.scales()[i / 4].to_f32();
        assert!((dense.data()[i] - value).abs() < 1e-9);
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let (good, codes) = example(Bits::Three, Shape::new(4, 12), Some(4), false);
    let (shape, scheme) = (good.shape(), good.scheme());
    let parts = |words: &[u32], scales: &[f16], zeros: &[i8]| {
        Quantised::from_parts(shape, scheme, words.into(), scales.into(), zeros.into())
    };
    let (words, scales, zeros) = (good.words(), good.scales(), good.zeros());
    assert_eq!(parts(words, scales, zeros).unwrap(), good);
    assert!(parts(&words[1..], scales, zeros).is_err());
    assert!(parts(words, &scales[1..], zeros).is_err());
    assert!(parts(words, scales, &[]).is_err());
    assert!(parts(words, scales, &[4; 12]).is_err());
    assert!(parts(words, &[f16::NAN; 12], zeros).is_err());
    let odd = Scheme {
        group: Some(5),
        ..scheme
    };
    assert!(Quantised::from_codes(shape, odd, &codes, scales.into(), zeros.into()).is_err());
    assert!(Quantised::unpack_zeros(shape, scheme, &[0; 2]).is_err());
    let vast = Shape::new(usize::MAX / 2, 12);
    assert!(Quantised::from_parts(vast, scheme, vec![], vec![], vec![]).is_err());
    assert!(Quantised::unpack_zeros(vast, scheme, &[]).is_err());
    let error = Quantised::from_codes(shape, scheme, &[9; 48], scales.into(), zeros.into());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("code is 9, which int3 cannot hold")
    );
}

#[test]
fn nearest_is_off_by_half_a_step_at_most_and_refuses_what_is_no_number() {
    for bits in Bits::ALL {
        for symmetric in [true, false] {
            let scheme = Scheme {
                symmetric,
                ..Scheme::symmetric(bits, Some(8))
            };
            let mut weight = Random(3).matrix(5, 24);
            let rounded = Quantised::nearest(&weight, scheme).unwrap();
            let dense = rounded.dense();
            let pairs = weight.data().iter().zip(dense.data());
            for (index, (exact, found)) in pairs.enumerate() {
                // A grid may end half a step short, and its scale, an f16, be off by 2⁻¹¹ of every step.
                let step = rounded.scales()[index / 8].to_f32().abs();
                let most = step * (0.5 + f32::from(bits.steps()) / 2048.0);
                assert!((exact - found).abs() <= most, "{exact} {found} {step}");
            }
            weight.data_mut()[30] = f32::NAN;
            let refused = Quantised::nearest(&weight, scheme).unwrap_err();
            assert!(refused.to_string().contains("row 1, column 6"), "{refused}");
        }
    }
}
