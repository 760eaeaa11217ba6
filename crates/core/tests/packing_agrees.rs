//! Codes are packed and read as compressed-tensors does it, bit by bit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use compress_core::{Bits, Quantised, Scheme, Shape, f16};
use serde::Deserialize;

/// A weight and the tensors that compressed-tensors makes of it: `tests/fixtures/make_packing.py`.
#[derive(Deserialize)]
struct Case {
    bits: Bits,
    group: Option<usize>,
    symmetric: bool,
    rows: usize,
    cols: usize,
    codes: Vec<i8>,
    zeros: Vec<i8>,
    scales: Vec<u16>,
    weight_packed: Vec<u32>,
    weight_zero_point: Vec<u32>,
    weight: Vec<u16>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../../../tests/fixtures/packing.json")).unwrap()
    }

    fn shape(&self) -> Shape {
        Shape::new(self.rows, self.cols)
    }

    fn scheme(&self) -> Scheme {
        Scheme {
            bits: self.bits,
            group: self.group,
            symmetric: self.symmetric,
        }
    }

    fn scales(&self) -> Vec<f16> {
        self.scales.iter().copied().map(f16::from_bits).collect()
    }

    fn encoded(&self) -> Quantised {
        let (codes, scales) = (&self.codes, self.scales());
        Quantised::from_codes(
            self.shape(),
            self.scheme(),
            codes,
            scales,
            self.zeros.clone(),
        )
        .unwrap()
    }
}

#[test]
fn codes_become_the_words_that_compressed_tensors_writes() {
    for case in Case::all() {
        let ours = case.encoded();
        assert_eq!(ours.words(), case.weight_packed, "{}", case.scheme());
        assert_eq!(
            ours.packed_zeros(),
            case.weight_zero_point,
            "{}",
            case.scheme()
        );
    }
}

#[test]
fn the_words_that_compressed_tensors_writes_become_the_same_weight() {
    for case in Case::all() {
        let (shape, scheme) = (case.shape(), case.scheme());
        let zeros = if case.symmetric {
            Vec::new()
        } else {
            Quantised::unpack_zeros(shape, scheme, &case.weight_zero_point).unwrap()
        };
        let words = case.weight_packed.clone();
        let read = Quantised::from_parts(shape, scheme, words, case.scales(), zeros).unwrap();
        assert_eq!(read, case.encoded());
        assert_eq!(read.codes(), case.codes);
        // It multiplies in the format of the scales.
        let halves = read
            .dense()
            .into_data()
            .into_iter()
            .map(|x| f16::from_f32(x).to_bits());
        assert!(halves.eq(case.weight.iter().copied()), "{scheme}");
    }
}
