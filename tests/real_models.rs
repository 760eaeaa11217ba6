//! Real models give the figures that independent programs measured on them.
//!
//! Needs the models and texts of `../shared`, and for SmolLM2 its GGUF file, named by the variable
//! `COMPRESS_SMOLLM2`; `.ci/run` sees to both and runs these tests with `--include-ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{compress, folder, json, near, shared, smollm2, stories, success, text};
use compress_checkpoint::Checkpoint;
use compress_evaluate::{Outline, ScoringFootprint};
use compress_models::Mixtures;
use serde_json::Value;

#[test]
#[ignore = "needs ../shared"]
fn stories15m_has_the_perplexity_that_pytorch_finds() {
    let (model, words) = stories();
    let found = json(&[
        "evaluate",
        text(&model),
        "--text",
        text(&words),
        "--ctx",
        "256",
        "--windows",
        "64",
    ]);
    near(&found["perplexity"], 4.0501, 0.002);
    assert_eq!(found["tokens"], 16_320);
}

#[test]
#[ignore = "needs ../shared"]
fn stories_scored_one_by_one_have_the_perplexities_that_pytorch_finds() {
    for (model, documents, tokens, expected) in [
        ("stories15m", "218", 40_153, 2.344),
        ("stories260k", "125", 40_132, 3.409),
    ] {
        let (model, words) = (
            shared("models").join(model),
            shared("text/tinystories_valid_docs.txt"),
        );
        let found = json(&[
            "evaluate",
            text(&model),
            "--text",
            text(&words),
            "--documents",
            "<|endoftext|>",
            "--windows",
            documents,
        ]);
        assert_eq!(found["tokens"], tokens);
        near(&found["perplexity"], expected, 0.001);
    }
}

#[test]
#[ignore = "needs ../shared"]
fn truncated_stories15m_has_the_perplexity_that_pytorch_finds() {
    let (model, words) = stories();
    let place = folder();
    for (keep, expected) in [("0.9", 172.27), ("0.8", 1524.6)] {
        let output = place.path().join(keep);
        let protocol = ["--text", text(&words), "--ctx", "256", "--windows", "64"];
        let found = json(
            &[
                &[
                    "run",
                    "svd",
                    text(&model),
                    "--keep",
                    keep,
                    "-o",
                    text(&output),
                ],
                &protocol[..],
            ]
            .concat(),
        );
        near(&found["after"]["perplexity"], expected, 0.02 * expected);
        near(&found["before"]["perplexity"], 4.0501, 0.002);
        let plan = success(&compress(&["plan", "svd", text(&model), "--keep", keep]));
        near(&found["bytes"], planned_bytes(&found, &plan), 0.01 * 50e6);
        let again = json(
            &[
                &["evaluate", text(&output), "--against", text(&model)],
                &protocol[..],
            ]
            .concat(),
        );
        near(
            &again["perplexity"],
            found["after"]["perplexity"].as_f64().unwrap(),
            1e-3,
        );
        near(
            &again["kl"]["mean"],
            found["after"]["kl"]["mean"].as_f64().unwrap(),
            1e-6,
        );
    }
}

#[test]
#[ignore = "needs ../shared"]
fn the_closed_forms_have_the_perplexities_that_pytorch_finds() {
    let (model, words) = stories();
    let evidence = folder();
    let variants =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../benches/closed_forms.toml");
    let calibration = shared("text/tinystories_train_head.txt");
    let found = json(&[
        "compare",
        text(&model),
        text(&variants),
        "--calibrate",
        text(&calibration),
        "--evidence",
        text(evidence.path()),
        "--text",
        text(&words),
        "--ctx",
        "256",
        "--windows",
        "64",
    ]);
    for (name, expected) in [
        ("rows 0.9", 38.63),
        ("rows 0.8", 104.6),
        ("rows 0.6", 475.0),
        ("activation 0.9", 9.374),
        ("activation 0.8", 14.01),
        ("activation 0.6", 35.17),
        ("kronecker 0.9", 8.553),
        ("kronecker 0.8", 12.37),
        ("kronecker 0.6", 30.05),
    ] {
        let rows = found["variants"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        near(
            &row["report"]["after"]["perplexity"],
            expected,
            0.03 * expected,
        );
    }
}

#[test]
#[ignore = "needs ../shared"]
fn thresholds_and_roundings_have_the_perplexities_that_pytorch_finds() {
    let (model, words) = stories();
    let (place, evidence) = (folder(), folder());
    let calibration = shared("text/tinystories_train_head.txt");
    let gptq = [
        "lorc",
        "--scaling",
        "absmax",
        "--refinements",
        "0",
        "--tokens",
        "uniform",
        "--one-shot",
    ];
    for (method, expected, tolerance) in [
        (
            &["welore", "--score", "minmax", "--keep", "0.9"][..],
            23.53,
            0.05,
        ),
        (
            &[
                "welore",
                "--score",
                "loss",
                "--count",
                "ranks",
                "--one-shot",
                "--keep",
                "0.8",
            ],
            8.46,
            0.03,
        ),
        (&["lorc", "--quantizer", "nearest"], 4.546, 0.005),
        (
            &[
                "lorc",
                "--quantizer",
                "nearest",
                "--rank",
                "8",
                "--metric",
                "plain",
            ],
            4.438,
            0.005,
        ),
        (&gptq, 4.396, 0.005),
        (
            &[&gptq[..], &["--rank", "8", "--bits", "3"]].concat(),
            5.154,
            0.02,
        ),
    ] {
        let output = place.path().join("out");
        let own = [
            "--calibrate",
            text(&calibration),
            "--evidence",
            text(evidence.path()),
            "--samples",
            "64",
        ];
        let protocol = [
            "--text",
            text(&words),
            "--ctx",
            "256",
            "--windows",
            "64",
            "--force",
        ];
        let arguments = [
            &["run"],
            method,
            &[text(&model), "-o", text(&output)],
            &own,
            &protocol,
        ];
        let found = json(&arguments.concat());
        near(
            &found["after"]["perplexity"],
            expected,
            tolerance * expected,
        );
    }
}

/// The size that a plan's own figures promise for a model in f32.
fn planned_bytes(run: &Value, plan: &str) -> f64 {
    let plan: Value = serde_json::from_str(plan).unwrap();
    let steps = plan["steps"].as_array().unwrap().iter();
    let saved = steps.map(|step| {
        let [before, after] = [0, 1].map(|i| step["parameters"][i].as_f64().unwrap());
        4.0 * (before - after)
    });
    run["before"]["bytes"].as_f64().unwrap() - saved.sum::<f64>()
}

#[test]
#[ignore = "needs the download of SmolLM2"]
fn smollm2_from_gguf_has_the_perplexity_that_pytorch_finds() {
    let (model, words) = smollm2();
    let found = json(&[
        "evaluate",
        text(&model),
        "--text",
        text(&words),
        "--ctx",
        "1024",
        "--windows",
        "16",
    ]);
    near(&found["perplexity"], 22.5504, 0.02);
    assert_eq!(found["tokens"], 16_368);
}

#[test]
#[ignore = "needs the download of SmolLM2"]
fn smollm2_is_cut_in_450_megabytes() {
    let (model, _) = smollm2();
    let place = folder();
    let output = place.path().join("out");
    let arguments = [
        "run",
        "svd",
        text(&model),
        "-o",
        text(&output),
        "--no-evaluate",
    ];
    let kilobytes = resident(&arguments) / 1024;
    assert!(kilobytes <= 450_000, "{kilobytes} kB");
    assert!(Path::new(&output).join("tokenizer.json").exists());
}

#[test]
#[ignore = "needs the download of SmolLM2"]
fn the_memory_of_an_evaluation_is_predicted_within_a_tenth() {
    let (model, words) = smollm2();
    let place = folder();
    let short = place.path().join("short.txt");
    // Four windows' worth: what a text takes by itself is not predicted.
    let words = fs::read_to_string(words).unwrap();
    fs::write(&short, words.chars().take(24_000).collect::<String>()).unwrap();
    let checkpoint = Checkpoint::open(&model).unwrap();
    let need = ScoringFootprint {
        models: vec![Outline::of(&checkpoint); 2],
        reference: None,
        mixtures: Mixtures::default(),
        time: 1024,
        windows: 4,
    };
    for predicted in [need.whole(), need.streamed(2), need.streamed(4)] {
        let found = resident(&[
            "evaluate",
            text(&model),
            "--against",
            text(&model),
            "--text",
            text(&short),
            "--ctx",
            "1024",
            "--windows",
            "4",
            "--memory",
            &predicted.to_string(),
        ]);
        let ratio = found as f64 / predicted as f64;
        assert!(
            (ratio - 1.0).abs() < 0.1,
            "{found} bytes, {predicted} predicted"
        );
    }
}

/// Runs `compress` for its maximum resident set, in bytes.
fn resident(arguments: &[&str]) -> usize {
    let result = Command::new("/usr/bin/time")
        .args(["-v", env!("CARGO_BIN_EXE_compress")])
        .args(arguments)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&result.stderr).into_owned();
    success(&result);
    let resident = report.lines().find_map(|line| {
        line.trim()
            .strip_prefix("Maximum resident set size (kbytes): ")
    });
    1024 * resident.unwrap().parse::<usize>().unwrap()
}
