//! Aligned heads: the same model in other bases, from the command line to files and back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{compress, fixture, folder, goes_on_after_kills, json, success, tensors, text};
use compress_checkpoint::Checkpoint;
use compress_models::{Decoder, Device};
use serde_json::Value;

/// The logits of a text of the first tokens.
fn logits(model: &Path) -> Vec<f32> {
    let model = Checkpoint::open(model).unwrap();
    let decoder = Decoder::load(&model, &Device::flex()).unwrap();
    let count = u32::try_from(model.config().vocabulary.min(40)).unwrap();
    let tokens: Vec<u32> = (0..count).collect();
    let hidden = decoder.hidden(&[&tokens]).unwrap();
    let [_, time, width] = hidden.dims();
    let logits = decoder.logits(hidden.reshape([time, width]));
    logits.into_data().try_to_vec().unwrap()
}

#[test]
fn no_network_computes_anything_else() {
    // Grouped queries, biases, norms on the heads of queries and keys, sliding windows.
    for name in ["llama", "llama_biased", "qwen2", "qwen3", "mistral_window"] {
        let place = folder();
        let (model, output) = (fixture("networks").join(name), place.path().join("out"));
        let words = ["align", text(&model), "--dtype", "f32", "--keep", "0.8"];
        let more = ["--no-evaluate", "-q", "-o", text(&output)];
        success(&compress(&[&words[..], &more].concat()));
        let (before, after) = (logits(&model), logits(&output));
        let largest = before.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (x, y) in before.iter().zip(&after) {
            assert!((x - y).abs() < 1e-5 * largest, "{name}: {x} {y}");
        }
        // Not because nothing was turned.
        let (before, after) = (tensors(&model), tensors(&output));
        let value = "model.layers.1.self_attn.v_proj";
        for tensor in [format!("{value}.weight"), format!("{value}.bias")] {
            if let Some((_, numbers)) = before.get(&tensor) {
                assert_ne!(*numbers, after[&tensor].1, "{name}: {tensor}");
            }
        }
    }
}

#[test]
fn the_shipped_model_keeps_its_perplexity_and_its_atoms_explain_more() {
    let place = folder();
    let output = place.path().join("out");
    let report = json(&["align", "--dtype", "f32", "-o", text(&output)]);
    let perplexity = |of: &str| report[of]["perplexity"].as_f64().unwrap();
    let ratio = perplexity("after") / perplexity("before");
    assert!((ratio - 1.0).abs() < 1e-5, "{report}");
    let record = fs::read(output.join("compression.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["method"], "align");
    assert_eq!(record["report"], report);

    // What one atom leaves of value and output, without a residual.
    let left = |model: &[&str], name: &str| -> f64 {
        let output = place.path().join(name);
        let words = ["--roles", "value,output", "--atoms", "1", "--residual", "0"];
        let more = ["--metric", "plain", "--dtype", "f32", "--no-evaluate"];
        let to = ["-q", "-o", text(&output)];
        success(&compress(
            &[&["run", "masa"], model, &words, &more, &to].concat(),
        ));
        let record = fs::read(output.join("compression.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let errors = record["errors"].as_object().unwrap().values();
        errors.map(|error| error.as_f64().unwrap()).sum()
    };
    let (before, after) = (left(&[], "before"), left(&[text(&output)], "after"));
    assert!(after < 0.97 * before, "{before} {after}");
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bytes() {
    let place = folder();
    let output = place.path().join("out");
    let words = ["align", "--no-evaluate", "-q", "-o", text(&output)];
    goes_on_after_kills(&words, &output, &[], 5);
}

#[test]
fn what_is_factored_is_refused_by_name_and_nothing_is_left() {
    let place = folder();
    let (cut, output) = (place.path().join("cut"), place.path().join("out"));
    let words = ["run", "svd", "--only", "value", "--no-evaluate", "-q"];
    success(&compress(&[&words[..], &["-o", text(&cut)]].concat()));
    let run = compress(&["align", text(&cut), "-q", "-o", text(&output)]);
    let told = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(2), "{told}");
    assert!(told.contains("0.value is no whole weight"), "{told}");
    let left = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 1, "only what was cut");
}
