//! Models are scored in as much memory as is allowed: whole, or block by block with the same figures.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::path::{Path, PathBuf};

use common::{compress, fixture, folder, success, text};
use compress_checkpoint::Checkpoint;
use compress_evaluate::{Outline, ScoringFootprint};
use compress_models::Mixtures;
use serde_json::Value;

const CONTEXT: usize = 64;
const WINDOWS: usize = 6;

fn tiny() -> PathBuf {
    fixture("../../models/tiny")
}

/// Runs `compress` over a few windows of the shipped sample.
fn json(arguments: &[&str], more: &[&str]) -> Value {
    let protocol = ["--ctx", "64", "--windows", "6", "--json", "-q"];
    let all = [arguments, &protocol, more].concat();
    serde_json::from_str(&success(&compress(&all))).unwrap()
}

/// The shipped model, cut or rounded.
fn variant(place: &Path, name: &str, method: &[&str]) -> PathBuf {
    let output = place.join(name);
    let end = ["-o", text(&output), "--no-evaluate", "-q"];
    let model = tiny();
    let arguments = [&["run"], method, &[text(&model)], &end].concat();
    success(&compress(&arguments));
    output
}

/// Bytes for batches of so many windows of two models.
fn bytes(models: [&Path; 2], batch: usize) -> String {
    let models = models.map(|path| Checkpoint::open(path).unwrap());
    let need = ScoringFootprint {
        models: models.iter().map(Outline::of).collect(),
        reference: None,
        mixtures: Mixtures::default(),
        time: CONTEXT,
        windows: WINDOWS,
    };
    assert!(need.streamed(batch) < need.whole());
    need.streamed(batch).to_string()
}

/// Without what differs from run to run.
fn figures(mut measured: Value) -> Value {
    let fields = measured.as_object_mut().unwrap();
    for time in ["seconds", "tokens_per_second", "latency", "streamed"] {
        fields.remove(time);
    }
    measured
}

#[test]
fn block_by_block_the_figures_are_those_of_whole_models_to_the_last_digit() {
    let place = folder();
    let original = tiny();
    for (name, method) in [
        ("cut", &["svd", "--keep", "0.7"][..]),
        ("pairs", &["svd", "--keep", "0.7", "--factor-bits", "8"]),
        (
            "rounded",
            &[
                "lorc",
                "--bits",
                "4",
                "--quantizer",
                "nearest",
                "--embedding-bits",
                "8",
            ],
        ),
    ] {
        let other = variant(place.path(), name, method);
        let evaluate = ["evaluate", text(&other), "--against", text(&original)];
        let whole = json(&evaluate, &[]);
        assert!(whole["latency"].is_object() && whole["streamed"].is_null());
        for batch in [1, 4] {
            let memory = bytes([&original, &other], batch);
            let streamed = json(&evaluate, &["--memory", &memory]);
            assert!(streamed["latency"].is_null(), "a new token was timed");
            assert_eq!(streamed["streamed"], true);
            assert_eq!(figures(streamed), figures(whole.clone()), "{name}, {batch}");
        }
    }
}

#[test]
fn what_is_not_measured_block_by_block_is_said() {
    let place = folder();
    let (original, other) = (tiny(), variant(place.path(), "cut", &["svd"]));
    let output = compress(&[
        "evaluate",
        text(&other),
        "--against",
        text(&original),
        "--ctx",
        "64",
        "--windows",
        "6",
        "--memory",
        &bytes([&original, &other], 2),
    ]);
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(
        stderr.contains("block by block, 2 windows at a time"),
        "{stderr}"
    );
    let table = success(&output);
    assert!(table.contains("not measured: block by block"), "{table}");
}

#[test]
fn too_little_memory_is_refused_with_what_is_needed() {
    let place = folder();
    let (original, other) = (tiny(), variant(place.path(), "cut", &["svd"]));
    let output = compress(&[
        "evaluate",
        text(&other),
        "--against",
        text(&original),
        "--memory",
        "1MB",
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("even block by block, and may use 1.0 MB"),
        "{stderr}"
    );
}

#[test]
fn a_comparison_has_the_figures_of_single_runs_however_much_memory_there_is() {
    let place = folder();
    let original = tiny();
    let cut = variant(place.path(), "cut", &["svd", "--keep", "0.7"]);
    let evaluate = ["evaluate", text(&cut), "--against", text(&original)];
    let single = figures(json(&evaluate, &[]));
    let alone = figures(json(&["evaluate", text(&original)], &[]));
    let compare = [
        "compare",
        text(&original),
        "--methods",
        "svd",
        "--keep",
        "0.7,0.9",
    ];
    let memory = bytes([&original, &cut], 2);
    for more in [&[][..], &["--memory", &memory]] {
        let found = json(&compare, more);
        assert_eq!(found["original"]["perplexity"], alone["perplexity"]);
        for variant in found["variants"].as_array().unwrap() {
            let before = figures(variant["report"]["before"].clone());
            assert_eq!(before["perplexity"], alone["perplexity"]);
        }
        let after = found["variants"][0]["report"]["after"].clone();
        for figure in ["perplexity", "kl", "bytes", "parameters"] {
            assert_eq!(after[figure], single[figure], "{figure}");
        }
    }
}
