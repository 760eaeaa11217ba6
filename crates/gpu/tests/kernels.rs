//! The kernels give what the CPU gives. They need an adapter, a software driver at least: `cargo test -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

use burn::tensor::{Device, DeviceType, Distribution, Tensor, TensorData};
use compress_core::{Bits, Matrix, Quantised, Scheme, Shape};
use compress_gpu::{Packed, attend};

/// Of the largest number: sums of up to a thousand products in `f32`, in another order.
const CLOSE: f32 = 2e-6;

fn gpu() -> Device {
    let devices = Device::enumerate(DeviceType::Wgpu);
    devices.first().expect("no adapter answers").clone()
}

fn random<const D: usize>(shape: [usize; D]) -> (Vec<f32>, [usize; D]) {
    let numbers = Tensor::<D>::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex());
    (numbers.into_data().try_into_vec().unwrap(), shape)
}

fn on<const D: usize>((numbers, shape): &(Vec<f32>, [usize; D]), device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers.clone(), *shape), device)
}

fn assert_close<const D: usize>(found: Tensor<D>, wanted: Tensor<D>, about: &str) {
    assert_eq!(found.dims(), wanted.dims(), "{about}");
    let [found, wanted] = [found, wanted].map(|x| x.into_data().try_into_vec::<f32>().unwrap());
    let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let error = (found - wanted).abs();
        assert!(
            error <= CLOSE * most,
            "{about}: {found} for {wanted} at {i}"
        );
    }
}

#[test]
#[ignore = "needs an adapter"]
fn on_a_gpu_products_with_packed_weights_are_those_with_decoded_ones() {
    let device = gpu();
    let cases = [
        (Bits::Two, Shape::new(70, 96), Some(32), true),
        (Bits::Three, Shape::new(33, 288), Some(32), true),
        (Bits::Three, Shape::new(65, 100), Some(20), false),
        (Bits::Four, Shape::new(129, 576), Some(64), true),
        (Bits::Four, Shape::new(5, 72), Some(24), false),
        (Bits::Eight, Shape::new(64, 51), None, true),
        (Bits::Eight, Shape::new(1, 1), None, false),
    ];
    for (bits, shape, group, symmetric) in cases {
        let scheme = Scheme {
            bits,
            group,
            symmetric,
        };
        let (numbers, _) = random([shape.rows, shape.cols]);
        let weight = Matrix::new(shape.rows, shape.cols, numbers).unwrap();
        let weight = Quantised::nearest(&weight, scheme).unwrap();
        let dense = (weight.dense().into_data(), [shape.rows, shape.cols]);
        let dense = on(&dense, &Device::flex());
        let packed = Packed::new(&weight, &device).unwrap();
        for tokens in [1, 3, 8, 9, 64, 130] {
            let about = format!("{scheme}, {shape}, {tokens} tokens");
            let x = random([tokens, shape.cols]);
            let found = packed.forward(&on(&x, &device)).unwrap();
            let wanted = on(&x, &Device::flex()).matmul(dense.clone().transpose());
            assert_close(found, wanted, &about);
            let g = random([tokens, shape.rows]);
            let found = packed.backward(&on(&g, &device)).unwrap();
            let wanted = on(&g, &Device::flex()).matmul(dense.clone());
            assert_close(found, wanted, &about);
        }
        let last = shape.rows as u32 - 1;
        let rows = packed.rows(&[last, 0, last]);
        let wanted = Tensor::cat(
            [last, 0, last]
                .map(|row| dense.clone().narrow(0, row as usize, 1))
                .to_vec(),
            0,
        );
        assert_close(rows, wanted, &scheme.to_string());
        assert_close(packed.dense(), dense, &scheme.to_string());
    }
}

#[test]
#[ignore = "needs an adapter"]
fn on_a_gpu_scales_of_every_size_are_read_exactly() {
    let device = gpu();
    // Every 16-bit float that is finite, the subnormal ones among them.
    let scales = (0..=u16::MAX).map(compress_core::f16::from_bits);
    let scales: Vec<_> = scales.filter(|scale| scale.is_finite()).collect();
    let (shape, scheme) = (
        Shape::new(scales.len(), 2),
        Scheme::symmetric(Bits::Eight, None),
    );
    let codes: Vec<i8> = (0..2 * scales.len())
        .map(|i| if i % 2 == 0 { 1 } else { -3 })
        .collect();
    let weight = Quantised::from_codes(shape, scheme, &codes, scales, Vec::new()).unwrap();
    let found = Packed::new(&weight, &device).unwrap().dense();
    let found: Vec<f32> = found.into_data().try_into_vec().unwrap();
    for (found, wanted) in found.iter().zip(weight.dense().data()) {
        assert!(found == wanted, "{found} for {wanted}");
    }
}

#[test]
#[ignore = "needs an adapter"]
fn on_a_gpu_attention_is_that_of_its_formula() {
    let device = gpu();
    let cases = [
        ([2, 6, 70, 16], 3, 70, None),
        ([1, 2, 33, 64], 1, 33, Some(9)),
        ([1, 4, 5, 48], 2, 40, None),
        ([1, 3, 1, 128], 3, 100, Some(17)),
        ([1, 1, 20, 8], 1, 20, None),
    ];
    for ([batch, heads, queries, size], shared, keys, window) in cases {
        let q = random([batch, heads, queries, size]);
        let [k, v] = [(); 2].map(|()| random([batch, shared, keys, size]));
        let found = attend(&on(&q, &device), &on(&k, &device), &on(&v, &device), window).unwrap();
        let mut wanted = vec![0.0; batch * queries * heads * size];
        for (text, head, query) in each(batch, heads, queries) {
            let group = head * shared / heads;
            let row = |of: &Vec<f32>, heads: usize, time: usize, head: usize, at: usize| {
                of[((text * heads + head) * time + at) * size..][..size].to_vec()
            };
            let position = keys - queries + query;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let own = row(&q.0, heads, queries, head, query);
            let score = |at: usize| {
                let key = row(&k.0, shared, keys, group, at);
                let dot: f64 = own.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum();
                (dot / (size as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = (first..=position).map(score).collect();
            let total: f64 = weights.iter().sum();
            let out = &mut wanted[((text * queries + query) * heads + head) * size..][..size];
            for (at, weight) in (first..).zip(weights) {
                let value = row(&v.0, shared, keys, group, at);
                let parts = out.iter_mut().zip(value);
                parts.for_each(|(out, value)| *out += (weight / total * f64::from(value)) as f32);
            }
        }
        let wanted = on(&(wanted, [batch, queries, heads * size]), &Device::flex());
        assert_close(
            found,
            wanted,
            &format!("{queries} queries, {keys} keys, {window:?}"),
        );
    }
}

fn each(batch: usize, heads: usize, queries: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch * heads * queries).map(move |i| {
        let (text, rest) = (i / (heads * queries), i % (heads * queries));
        (text, rest / queries, rest % queries)
    })
}

#[test]
#[ignore = "needs an adapter"]
fn on_a_gpu_pairs_of_every_rank_give_what_the_cpu_does() {
    // Before burn 0.22.1 a product whose depth was an odd number of stages read past its end.
    let device = gpu();
    for rank in 1..=130 {
        let (down, up) = (random([rank, 48]), random([40, rank]));
        for tokens in [1, 9] {
            let x = random([tokens, 48]);
            let [found, wanted] = [&device, &Device::flex()].map(|device| {
                let [x, down, up] = [&x, &down, &up].map(|matrix| on(matrix, device));
                x.matmul(down.transpose()).matmul(up.transpose())
            });
            assert_close(found, wanted, &format!("rank {rank}, {tokens} tokens"));
        }
    }
}
