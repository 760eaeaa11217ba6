//! Training after compression: what it refuses, writes and survives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::{compress, fixture, folder, kill_after, success, text};
use compress_checkpoint::{Checkpoint, names};
use compress_core::Form;
use serde_json::Value;

/// The shipped model, cut; and the file that says how training on it went.
struct Case {
    place: tempfile::TempDir,
    original: PathBuf,
    corpus: PathBuf,
}

impl Case {
    fn new() -> Self {
        Self::of(&["svd", "--keep", "0.5", "--only", "mlp"])
    }

    /// Of layers that share atoms.
    fn shared() -> Self {
        Self::of(&[
            "masa",
            "--atoms",
            "2",
            "--residual",
            "0.2",
            "--metric",
            "plain",
        ])
    }

    fn of(method: &[&str]) -> Self {
        let place = folder();
        let original = fixture("../../models/tiny");
        let cut = place.path().join("cut");
        let ends = [text(&original), "-o", text(&cut), "--no-evaluate", "-q"];
        success(&compress(&[&["run"], method, &ends].concat()));
        let corpus = place.path().join("corpus.txt");
        let words = fs::read_to_string(original.join("calibration.txt")).unwrap();
        fs::write(&corpus, words.chars().take(4000).collect::<String>()).unwrap();
        Self {
            place,
            original,
            corpus,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let (cut, output, log) = (self.path("cut"), self.path("out"), self.path("log.json"));
        let mut own = vec![
            "tune",
            text(&cut),
            "--original",
            text(&self.original),
            "--corpus",
            text(&self.corpus),
            "--train-ctx",
            "32",
            "--batch",
            "2",
            "--steps",
            "9",
            "--every",
            "3",
            "--held-out",
            "4",
            "--rate",
            "0.003",
            "-o",
            text(&output),
            "--log",
            text(&log),
            "--no-evaluate",
            "-q",
        ];
        // An option that is said twice is an error of its own.
        for option in more {
            if let Some(place) = own.iter().position(|word| word == option) {
                own.drain(place..place + 2);
            }
        }
        own.iter()
            .chain(more)
            .map(|&word| word.to_owned())
            .collect()
    }

    fn run(&self, more: &[&str]) -> std::process::Output {
        let arguments = self.arguments(more);
        compress(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn weights(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let names = checkpoint.tensors().keys();
    names
        .map(|name| (name.clone(), checkpoint.raw(name).unwrap().clone()))
        .collect()
}

fn curve(log: &Path) -> Value {
    let json: Value = serde_json::from_slice(&fs::read(log).unwrap()).unwrap();
    json["curve"].clone()
}

#[test]
fn only_low_rank_components_change_and_the_held_out_loss_falls() {
    let case = Case::new();
    for objective in ["language", "distillation"] {
        success(&case.run(&["--objective", objective, "--force"]));
        let (before, after) = (weights(&case.path("cut")), weights(&case.path("out")));
        let forms = Checkpoint::open(&case.path("cut")).unwrap();
        let pair = |name: &str| {
            let module = name.rsplit_once(".up.").or(name.rsplit_once(".down."));
            let site = module.and_then(|(module, _)| names::site(module));
            site.is_some_and(|site| forms.forms()[&site] != Form::WHOLE)
        };
        for (name, bytes) in &before {
            assert_eq!(bytes != &after[name], pair(name), "{objective}: {name}");
        }
        let curve = curve(&case.path("log.json"));
        let looks = curve.as_array().unwrap().iter();
        let looks = looks.filter(|point| point["block"].as_u64().unwrap_or(0) == 0);
        let looks: Vec<f64> = looks.filter_map(|p| p["held_out"].as_f64()).collect();
        assert!(
            looks.iter().any(|x| *x < looks[0]),
            "{objective}: {looks:?}"
        );
        let record = fs::read_to_string(case.path("out/compression.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["before"]["method"], "svd");
    }
}

#[test]
fn a_training_killed_at_any_moment_goes_on_to_the_same_curve_and_bytes() {
    for (case, more) in [
        (Case::new(), ["--objective", "language"]),
        (Case::new(), ["--objective", "distillation"]),
        (Case::shared(), ["--train", "lrc,atoms"]),
    ] {
        let clock = Instant::now();
        success(&case.run(&more));
        let time = clock.elapsed();
        let whole = (curve(&case.path("log.json")), weights(&case.path("out")));
        for kill in 0..10_u32 {
            fs::remove_dir_all(case.path("out")).unwrap();
            for moment in [kill, (kill * 7 + 3) % 10] {
                kill_after(
                    time * moment / 10 + Duration::from_millis(3),
                    &case.arguments(&more),
                );
            }
            let published = case.path("out").exists();
            if !published {
                success(&case.run(&more));
            }
            let again = (curve(&case.path("log.json")), weights(&case.path("out")));
            assert!(again == whole, "{more:?}, killed at {kill} tenths");
            let mut left: Vec<_> = fs::read_dir(case.place.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            // Killed between the last rename and the end: what is left beside the output the next run removes.
            left.retain(|name| !published || !name.starts_with("out.compress-"));
            assert_eq!(left, ["corpus.txt", "cut", "log.json", "out"]);
            assert!(!case.path("out/training").exists());
        }
    }
}

#[test]
fn a_rate_that_is_too_high_leaves_the_model_as_it_was() {
    let case = Case::new();
    success(&case.run(&["--rate", "30", "--clip", "1e9"]));
    assert!(weights(&case.path("cut")) == weights(&case.path("out")));
}

#[test]
fn what_cannot_be_trained_is_said_before_anything_is_done() {
    let case = Case::new();
    let network = fixture("networks/llama");
    for (more, told) in [
        (&["--every", "0"][..], "--every"),
        (&["--batch", "0"], "--batch"),
        (&["--steps", "0"], "--steps"),
        (&["--held-out", "0"], "--held-out"),
        (&["--patience", "0"], "--patience"),
        (&["--rate", "nan"], "--rate"),
        (&["--clip", "0"], "--clip"),
        (&["--decay", "inf"], "--decay"),
        (&["--train", "everything"], "--train"),
        (&["--train-ctx", "100000"], "corpus.txt"),
        (&["--original", text(&network)], "is no original of"),
    ] {
        let output = case.run(more);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {stderr}");
        assert!(stderr.contains(told), "{more:?}: {stderr}");
        assert!(!case.path("out").exists());
        assert!(!case.path("out.compress-work").exists());
    }
}

#[test]
fn atoms_are_trained_in_floats_and_through_the_whole_model_only() {
    let case = Case::shared();
    let rounded = case.path("rounded");
    let masa = [
        "run",
        "masa",
        "--atoms",
        "2",
        "--metric",
        "plain",
        "--factor-bits",
        "8",
    ];
    let ends = [
        text(&case.original),
        "-o",
        text(&rounded),
        "--no-evaluate",
        "-q",
    ];
    success(&compress(&[&masa[..], &ends].concat()));
    for (model, objective, told) in [
        (&rounded, "language", "model.dictionaries.q_proj_0"),
        (
            &case.path("cut"),
            "distillation",
            "atoms are of many blocks",
        ),
    ] {
        let mut arguments = case.arguments(&["--train", "atoms", "--objective", objective]);
        arguments[1] = text(model).to_owned();
        let output = compress(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{objective}: {stderr}");
        assert!(stderr.contains(told), "{objective}: {stderr}");
        assert!(!case.path("out.compress-work").exists());
    }
}

#[test]
fn a_whole_model_has_no_components_to_train() {
    let case = Case::new();
    let output = compress(&[
        "tune",
        text(&case.original),
        "--corpus",
        text(&case.corpus),
        "--train-ctx",
        "32",
        "-o",
        text(&case.path("out")),
        "--no-evaluate",
        "-q",
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("no low-rank component"), "{stderr}");
    assert!(!case.path("out.compress-work").exists());
    let output = compress(&[
        "tune",
        text(&case.path("cut")),
        "--objective",
        "distillation",
        "--corpus",
        text(&case.corpus),
        "-o",
        text(&case.path("out")),
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("give --original"), "{stderr}");
}

#[test]
fn after_tuning_weights_are_compared_with_the_original() {
    let case = Case::new();
    let json = success(&compress(&[
        "inspect",
        text(&case.path("cut")),
        "--against",
        text(&case.original),
        "--json",
    ]));
    let json: Value = serde_json::from_str(&json).unwrap();
    for weight in json["weights"].as_array().unwrap() {
        let change = &weight["change"];
        assert!(change["effective_rank_before"].as_f64().unwrap() > 1.0);
        if weight["form"] == "whole" {
            assert_eq!(change["intruders"], 0, "{weight}");
            assert!(change["least_cosine"].as_f64().unwrap() > 0.999, "{weight}");
        }
    }
}
