//! Runs that measure first: what they need, keep and survive.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{command, compress, files, fixture, folder, goes_on_after_kills, success, text};
use serde_json::Value;

/// Arguments of a run on the shipped model, small enough to be done in a second.
fn arguments<'a>(method: &[&'a str], output: &'a Path, evidence: &'a Path) -> Vec<&'a str> {
    let place = ["-o", text(output), "--evidence", text(evidence)];
    let size = [
        "--keep",
        "0.7",
        "--samples",
        "6",
        "--calibrate-ctx",
        "64",
        "--no-evaluate",
        "-q",
    ];
    [&["run"], method, &place, &size].concat()
}

fn failure(arguments: &[&str]) -> String {
    let output = compress(arguments);
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_run_that_measures_is_killed_and_goes_on_to_the_same_bytes() {
    let place = folder();
    let (output, evidence) = (place.path().join("out"), place.path().join("evidence"));
    for method in [&["fwsvd", "--refit"][..], &["fwsvd"]] {
        let arguments = arguments(method, &output, &evidence);
        goes_on_after_kills(&arguments, &output, &[&evidence], 10);
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let place = folder();
    let mut outputs = Vec::new();
    for threads in ["1", "4"] {
        let (output, evidence) = (
            place.path().join(threads),
            place.path().join("e".to_owned() + threads),
        );
        let arguments = arguments(&["fwsvd", "--refit"], &output, &evidence);
        let run = command()
            .args(arguments)
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        success(&run);
        outputs.push(files(&output));
    }
    assert!(outputs[0] == outputs[1]);
}

#[test]
fn evidence_is_taken_once_and_never_for_another_text() {
    let place = folder();
    let (output, evidence) = (place.path().join("out"), place.path().join("evidence"));
    let first = arguments(
        &["svd", "--metric", "activation", "--one-shot", "--force"],
        &output,
        &evidence,
    );
    success(&compress(&first));
    let folders = || {
        fs::read_dir(&evidence)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let one = folders();
    assert_eq!(one.len(), 1);
    let stamp = |name: &str| fs::metadata(one[0].join(name)).unwrap().modified().unwrap();
    let before = stamp("0.attention.activations.safetensors");
    success(&compress(&first));
    assert_eq!(stamp("0.attention.activations.safetensors"), before);
    let other = [&first[..], &["--seed", "5"]].concat();
    success(&compress(&other));
    assert_eq!(folders().len(), 2);
}

#[test]
fn only_some_weights_can_be_refitted() {
    let place = folder();
    let (output, evidence) = (place.path().join("out"), place.path().join("evidence"));
    let some = ["fwsvd", "--refit", "--only", "1-2"];
    success(&compress(&arguments(&some, &output, &evidence)));
    let names: Vec<_> = files(&output).into_keys().collect();
    assert!(
        !names
            .iter()
            .any(|name| name.contains("residual") || name.contains("input")),
        "{names:?}"
    );
}

#[test]
fn what_a_method_needs_and_does_not_get_is_said() {
    let place = folder();
    let output = place.path().join("out");
    let evidence = place.path().join("evidence");
    let base = arguments(&["fwsvd"], &output, &evidence);
    let model = fixture("networks/llama");
    let without = failure(&[&base[..], &[text(&model)]].concat());
    assert!(without.contains("--calibrate"), "{without}");
    let short = place.path().join("short.txt");
    fs::write(&short, "Once upon a time.").unwrap();
    let error = failure(&[&base[..], &["--calibrate", text(&short)]].concat());
    assert!(error.contains("short.txt"), "{error}");
    let many: Vec<&str> = base
        .iter()
        .map(|&word| if word == "6" { "600000" } else { word })
        .collect();
    let error = failure(&many);
    assert!(error.contains("600000"), "{error}");
    let error = failure(&[&base[..], &["--fisher", "columns"]].concat());
    assert!(error.contains("rows or kronecker"), "{error}");
    assert!(!output.exists());
}

#[test]
fn variants_are_compared_and_one_that_fails_says_so() {
    let place = folder();
    let (variants, plot) = (
        place.path().join("variants.toml"),
        place.path().join("plot.svg"),
    );
    let evidence = place.path().join("evidence");
    fs::write(
        &variants,
        r#"
        [plain]
        method = "svd"
        keep = 0.8

        [informed]
        method = "svd"
        metric = "activation"
        keep = 0.8

        [nonsense]
        method = "svd"
        keep = 8
        "#,
    )
    .unwrap();
    let run = compress(&[
        "compare",
        "--ctx",
        "64",
        "--windows",
        "4",
        "--samples",
        "48",
        "--evidence",
        text(&evidence),
        "--plot",
        text(&plot),
        "--json",
        "-q",
        "--methods",
        "svd",
        "--keep",
        "0.9",
    ]);
    let json: Value = serde_json::from_str(&success(&run)).unwrap();
    assert_eq!(json["variants"].as_array().unwrap().len(), 1);
    let model = fixture("../../models/tiny");
    let run = compress(&[
        "compare",
        text(&model),
        text(&variants),
        "--calibrate",
        text(&model.join("calibration.txt")),
        "--ctx",
        "64",
        "--windows",
        "4",
        "--samples",
        "48",
        "--evidence",
        text(&evidence),
        "--plot",
        text(&plot),
        "--json",
        "-q",
    ]);
    assert_eq!(
        run.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let json: Value = serde_json::from_slice(&run.stdout).unwrap();
    let rows = json["variants"].as_array().unwrap();
    let perplexity = |row: &Value| row["report"]["after"]["perplexity"].as_f64().unwrap();
    assert!(perplexity(&rows[1]) < perplexity(&rows[0]));
    assert!(
        rows[2]["error"].as_str().unwrap().contains("keep"),
        "{}",
        rows[2]
    );
    assert!(fs::read_to_string(&plot).unwrap().contains("<svg"));
}
