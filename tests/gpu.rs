//! On a GPU every form of a weight gives what it gives on the CPU. These tests need an adapter, a software driver at
//! least: `cargo test --test gpu -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{compress, folder, json, success};
use serde_json::Value;

/// A GPU's perplexity may differ by this fraction of the CPU's: sums are taken in other orders.
const CLOSE: f64 = 1e-4;

/// The options of `run` for each form, of the shipped model.
const FORMS: [(&str, &[&str]); 9] = [
    ("low-rank", &["svd", "--keep", "0.8"]),
    (
        "rounded pair",
        &["svd", "--keep", "0.8", "--factor-bits", "8"],
    ),
    ("int8 embedding", &["svd", "--embedding-bits", "8"]),
    (
        "int4",
        &["lorc", "--quantizer", "nearest", "--metric", "plain"],
    ),
    (
        "int3 with zero points",
        &[
            "lorc",
            "--quantizer",
            "nearest",
            "--metric",
            "plain",
            "--bits",
            "3",
            "--asymmetric",
        ],
    ),
    (
        "int4 and correction",
        &[
            "lorc",
            "--quantizer",
            "nearest",
            "--metric",
            "plain",
            "--rank",
            "8",
        ],
    ),
    ("mixture", &["masa", "--atoms", "2", "--metric", "plain"]),
    (
        "rounded mixture",
        &[
            "masa",
            "--atoms",
            "2",
            "--metric",
            "plain",
            "--factor-bits",
            "8",
        ],
    ),
    (
        "thin cache",
        &["think", "--lambda", "0.5", "--values", "0.3"],
    ),
];

fn evaluated(model: Option<&Path>, device: &str, more: &[&str]) -> Value {
    let mut words = vec!["evaluate", "--windows", "3", "--device", device];
    words.extend(model.map(|model| model.to_str().unwrap()));
    words.extend(more);
    json(&words)
}

/// Runs a model on both devices; the bytes that it takes on the GPU.
fn agrees(name: &str, model: Option<&Path>, more: &[&str]) -> u64 {
    let [cpu, gpu] = ["cpu", "wgpu"].map(|device| evaluated(model, device, more));
    let [on_cpu, on_gpu] = [&cpu, &gpu].map(|it| it["perplexity"].as_f64().unwrap());
    assert!(
        (on_gpu / on_cpu - 1.0).abs() < CLOSE,
        "{name}: {on_gpu} for {on_cpu}"
    );
    assert!(cpu.get("device_bytes").is_none());
    gpu["device_bytes"].as_u64().unwrap()
}

#[test]
#[ignore = "needs an adapter"]
fn on_a_gpu_every_form_has_the_perplexity_that_it_has_on_the_cpu_and_packed_ones_stay_packed() {
    let whole = agrees("whole", None, &[]);
    let place = folder();
    for (name, words) in FORMS {
        let output = place.path().join(name);
        let model = output.to_str().unwrap();
        let ends = ["-o", model, "--no-evaluate", "-q"];
        success(&compress(&[&["run"], words, &ends].concat()));
        let bytes = agrees(name, Some(&output), &[]);
        let files = ["model.safetensors", "adapter/adapter_model.safetensors"];
        let files = files.map(|file| fs::metadata(output.join(file)).map_or(0, |file| file.len()));
        let on_disk: u64 = files.iter().sum();
        // A mixture is mixed when it is loaded, and of its atoms' 16 bits too few are left to hold it.
        let most = if name.contains("mixture") {
            2 * whole
        } else {
            on_disk
        };
        let no_more = |bytes: u64, most: u64| {
            assert!(
                bytes as f64 <= 1.02 * most as f64,
                "{name}: {bytes} bytes on the GPU, {on_disk} on disk"
            );
        };
        no_more(bytes, most);
        if name.contains("mixture") {
            let shared = agrees(name, Some(&output), &["--share-memory"]);
            no_more(shared, on_disk);
        }
    }
}

#[test]
#[ignore = "needs an adapter"]
fn on_a_gpu_the_most_likely_tokens_are_those_of_the_cpu() {
    let text = |device| {
        let words = [
            "generate",
            "--prompt",
            "Once upon a time",
            "-n",
            "40",
            "--device",
            device,
        ];
        json(&words)["text"].clone()
    };
    assert_eq!(text("wgpu"), text("cpu"));
}
