//! The networks give the logits that transformers gives, for every architecture.
//!
//! `tests/fixtures/make_networks.py` made the checkpoints and the expected logits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::path::Path;

use compress_checkpoint::Checkpoint;
use compress_core::Format;
use compress_models::{Cache, Decoder, Device};
use safetensors::SafeTensors;
use serde_json::{Map, Value};

use crate::common::fixture;

struct Expected {
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

fn expected(name: &str) -> Expected {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("input_ids").unwrap();
    let tokens = ids
        .data()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&b| u32::try_from(i64::from_le_bytes(b)).unwrap());
    Expected {
        tokens: tokens.collect(),
        logits: Format::F32.decode(file.tensor("logits").unwrap().data()),
    }
}

fn largest_difference(decoder: &Decoder, expected: &Expected) -> f32 {
    let hidden = decoder.hidden(&[&expected.tokens]).unwrap();
    let [_, time, width] = hidden.dims();
    let logits = decoder.logits(hidden.reshape([time, width])).into_data();
    difference(logits.as_slice().unwrap(), &expected.logits)
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn load(path: &Path) -> Decoder {
    Decoder::load(&Checkpoint::open(path).unwrap(), &Device::flex()).unwrap()
}

fn check(name: &str) {
    let found = largest_difference(
        &load(&fixture(&format!("networks/{name}"))),
        &expected(&format!("networks/{name}/expected.safetensors")),
    );
    assert!(found < 1e-4, "{name}: logits differ by {found}");
}

#[test]
fn llama_with_stretched_rotary_embedding_and_tied_head() {
    check("llama");
}

#[test]
fn rotary_embedding_scaled_in_every_way() {
    let settings = std::fs::read(fixture("networks/rotary.json")).unwrap();
    let settings: Map<String, Value> = serde_json::from_slice(&settings).unwrap();
    let logits = std::fs::read(fixture("networks/rotary.safetensors")).unwrap();
    let logits = SafeTensors::deserialize(&logits).unwrap();
    let tokens = expected("networks/llama/expected.safetensors").tokens;
    for (name, changed) in settings {
        let folder = common::copy("networks/llama");
        let path = folder.path().join("config.json");
        let mut json: Map<_, _> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json.extend(changed.as_object().unwrap().clone());
        std::fs::write(&path, Value::from(json).to_string()).unwrap();
        let decoder = load(folder.path());
        let logits = Format::F32.decode(logits.tensor(&name).unwrap().data());
        let tokens = tokens.clone();
        let found = largest_difference(&decoder, &Expected { tokens, logits });
        assert!(found < 1e-4, "{name}: logits differ by {found}");
    }
}

#[test]
fn llama_with_biases_and_a_head_of_its_own() {
    check("llama_biased");
}

#[test]
fn llama_in_shards_of_bf16() {
    check("llama_sharded");
}

#[test]
fn mistral_with_wide_heads() {
    check("mistral");
}

#[test]
fn mistral_with_a_text_longer_than_its_window() {
    check("mistral_window");
}

#[test]
fn qwen2_with_biases() {
    check("qwen2");
}

#[test]
fn qwen3_with_norms_of_queries_and_keys() {
    check("qwen3");
}

#[test]
fn llama_from_gguf() {
    let decoder = load(&fixture("gguf/llama.gguf"));
    let found = largest_difference(&decoder, &expected("gguf/llama.expected.safetensors"));
    assert!(found < 1e-4, "logits differ by {found}");
}

#[test]
fn token_by_token_through_the_cache_gives_the_same_as_all_at_once() {
    for name in ["llama", "mistral_window", "qwen3"] {
        let decoder = load(&fixture(&format!("networks/{name}")));
        let expected = expected(&format!("networks/{name}/expected.safetensors"));
        let vocabulary = decoder.vocabulary();
        let mut cache = Cache::new();
        let (start, rest) = expected.tokens.split_at(5);
        decoder.hidden_after(&mut cache, start).unwrap();
        for (i, &token) in rest.iter().enumerate() {
            let hidden = decoder.hidden_after(&mut cache, &[token]).unwrap();
            let width = hidden.dims()[2];
            let logits = decoder.logits(hidden.reshape([1, width])).into_data();
            let row = &expected.logits[(5 + i) * vocabulary..][..vocabulary];
            let found = difference(logits.as_slice().unwrap(), row);
            assert!(
                found < 1e-4,
                "{name}, token {}: logits differ by {found}",
                5 + i
            );
        }
        assert_eq!(cache.len(), expected.tokens.len());
    }
}
