//! Every block format gives the values that the gguf package for Python gives.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use compress_gguf::{BlockType, Error, Gguf, dequantise};
use safetensors::SafeTensors;
use support::fixture;

const TENSOR: &str = "blk.0.ffn_down.weight";
/// Each with a fixture of its own.
const KINDS: [BlockType; 13] = [
    BlockType::F32,
    BlockType::F16,
    BlockType::BF16,
    BlockType::Q4_0,
    BlockType::Q4_1,
    BlockType::Q5_0,
    BlockType::Q5_1,
    BlockType::Q8_0,
    BlockType::Q2_K,
    BlockType::Q3_K,
    BlockType::Q4_K,
    BlockType::Q5_K,
    BlockType::Q6_K,
];
/// All in one fixture.
const TABLES: [BlockType; 12] = [
    BlockType::IQ1_S,
    BlockType::IQ1_M,
    BlockType::IQ2_XXS,
    BlockType::IQ2_XS,
    BlockType::IQ2_S,
    BlockType::IQ3_XXS,
    BlockType::IQ3_S,
    BlockType::IQ4_NL,
    BlockType::IQ4_XS,
    BlockType::TQ1_0,
    BlockType::TQ2_0,
    BlockType::MXFP4,
];

/// Decodes a tensor and compares every bit of its values.
fn compare(file: &[u8], tensor: &str, kind: BlockType, expected: &SafeTensors) {
    let gguf = Gguf::parse(file).unwrap();
    let tensor = &gguf.tensors()[tensor];
    let mut values = vec![f32::NAN; tensor.shape.iter().product()];
    dequantise(tensor.kind, &file[tensor.range.clone()], &mut values).unwrap();
    let reference = expected.tensor(&kind.to_string().to_lowercase()).unwrap();
    assert_eq!(
        (tensor.kind, tensor.shape.as_slice()),
        (kind, reference.shape())
    );
    let bits = reference.data().as_chunks().0.iter();
    for (at, (value, bytes)) in values.iter().zip(bits).enumerate() {
        assert_eq!(
            value.to_bits(),
            u32::from_le_bytes(*bytes),
            "{kind}, value {at}: {value}"
        );
    }
}

#[test]
fn every_format_agrees_bit_for_bit_with_the_reference() {
    let expected = fixture("expected.safetensors");
    let expected = SafeTensors::deserialize(&expected).unwrap();
    for kind in KINDS {
        let name = kind.to_string().to_lowercase();
        compare(&fixture(&format!("{name}.gguf")), TENSOR, kind, &expected);
    }
}

#[test]
fn every_format_with_tables_agrees_bit_for_bit_with_the_reference() {
    let expected = fixture("tables.expected.safetensors");
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let file = fixture("tables.gguf");
    for kind in TABLES {
        compare(&file, &kind.to_string().to_lowercase(), kind, &expected);
    }
}

#[test]
fn no_bytes_of_a_block_make_decoding_panic() {
    for kind in KINDS.into_iter().chain(TABLES) {
        let mut out = vec![0.0; kind.values()];
        for byte in 0..=255 {
            let block: Vec<u8> = (0..kind.bytes())
                .map(|at| byte ^ (at as u8).wrapping_mul(37))
                .collect();
            dequantise(kind, &block, &mut out).unwrap();
            dequantise(kind, &vec![byte; kind.bytes()], &mut out).unwrap();
        }
    }
}

#[test]
fn bytes_that_are_not_the_blocks_of_the_values_are_refused() {
    for kind in KINDS.into_iter().chain(TABLES) {
        let (bytes, values) = (vec![0; 3 * kind.bytes()], 2 * kind.values());
        let mut out = vec![1.0; values];
        for length in [
            0,
            kind.bytes(),
            2 * kind.bytes() - 1,
            2 * kind.bytes() + 1,
            3 * kind.bytes(),
        ] {
            let refused = dequantise(kind, &bytes[..length], &mut out);
            assert!(
                matches!(refused, Err(Error::Lengths { .. })),
                "{kind}, {length} bytes"
            );
        }
        assert!(out == vec![1.0; values]);
        assert!(dequantise(kind, &bytes[..2 * kind.bytes()], &mut out).is_ok());
        assert!(out == vec![0.0; values], "{kind}");
    }
}

#[test]
fn nothing_is_the_values_of_no_bytes() {
    assert!(
        KINDS
            .iter()
            .all(|kind| dequantise(*kind, &[], &mut []).is_ok())
    );
}
