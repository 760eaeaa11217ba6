//! The program as people and programs use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path, time::Duration};

use common::{command, compress, copy, files, fixture, folder, kill_after, success, text};
use compress_checkpoint::{Checkpoint, names};
use compress_core::{Form, Role, Site};
use serde_json::Value;

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&success(output)).unwrap()
}

/// Cuts a model without running it, and opens what was written.
fn cut(model: &Path, output: &Path, more: &[&str]) -> Checkpoint {
    let arguments = [
        &[
            "run",
            "svd",
            text(model),
            "-o",
            text(output),
            "--no-evaluate",
            "-q",
        ],
        more,
    ]
    .concat();
    success(&compress(&arguments));
    Checkpoint::open(output).unwrap()
}

#[test]
fn the_shipped_model_is_cut_and_measured_without_any_argument() {
    let place = folder();
    let output = place.path().join("out");
    let result = json(&compress(&[
        "run",
        "svd",
        "-o",
        text(&output),
        "--json",
        "--windows",
        "8",
    ]));
    let (before, after) = (&result["before"], &result["after"]);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&after["bytes"]) < number(&before["bytes"]));
    assert!(number(&after["perplexity"]) > 2.0 * number(&before["perplexity"]));
    assert!(number(&after["kl"]["mean"]) > 0.0 && number(&after["kl"]["same_top"]) < 1.0);
    for field in [
        "perplexity",
        "tokens",
        "bytes",
        "parameters",
        "seconds",
        "tokens_per_second",
    ] {
        assert!(
            number(&before[field]) > 0.0 && number(&after[field]) > 0.0,
            "{field}"
        );
    }
    assert!(number(&result["compress_seconds"]) > 0.0);
    assert_eq!(
        after["bytes"],
        fs::metadata(output.join("model.safetensors"))
            .unwrap()
            .len()
    );
    let again = json(&compress(&[
        "evaluate",
        text(&output),
        "--json",
        "--windows",
        "8",
    ]));
    assert!((number(&again["perplexity"]) / number(&after["perplexity"]) - 1.0).abs() < 1e-6);
    let record: Value =
        serde_json::from_slice(&fs::read(output.join("compression.json")).unwrap()).unwrap();
    assert_eq!(record["report"]["after"]["perplexity"], after["perplexity"]);
}

#[test]
fn keep_one_gives_the_weights_back_byte_for_byte() {
    let place = folder();
    let output = place.path().join("out");
    let model = fixture("networks/llama_biased");
    let before = Checkpoint::open(&model).unwrap();
    let after = cut(&model, &output, &["--keep", "1"]);
    assert_eq!(before.tensors().len(), after.tensors().len());
    for name in before.tensors().keys() {
        assert_eq!(
            before.raw(name).unwrap(),
            after.raw(name).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn what_the_plan_does_not_touch_stays_byte_for_byte_and_biases_move_to_the_second_factor() {
    let place = folder();
    let model = fixture("networks/llama_biased");
    let before = Checkpoint::open(&model).unwrap();
    let after = cut(
        &model,
        &place.path().join("out"),
        &["--keep", "0.5", "--only", "mlp"],
    );
    let mut cut = 0;
    for name in before.tensors().keys() {
        let renamed = name.replace("_proj.bias", "_proj.up.bias");
        match names::site_of_weight(name) {
            Some(site) if matches!(site.role(), Some(Role::Gate | Role::Up | Role::Down)) => {
                assert!(after.forms()[&site].rank().is_some());
                cut += 1;
            }
            _ => {
                let name_after = if after.tensors().contains_key(name) {
                    name
                } else {
                    &renamed
                };
                assert_eq!(
                    before.raw(name).unwrap(),
                    after.raw(name_after).unwrap(),
                    "{name}"
                );
            }
        }
    }
    assert_eq!(cut, 3 * before.config().layers);
}

#[test]
fn a_factor_is_read_as_it_was_written() {
    let place = folder();
    let model = fixture("networks/qwen2");
    let after = cut(&model, &place.path().join("out"), &["--keep", "0.6"]);
    let dense = cut(
        &model,
        &place.path().join("dense"),
        &["--keep", "0.6", "--dense"],
    );
    for site in after.forms().keys() {
        let (pair, whole) = (
            after.factor(*site).unwrap().dense().unwrap(),
            dense.factor(*site).unwrap().dense().unwrap(),
        );
        assert!(
            pair.squared_distance(&whole) <= 1e-10 * whole.squared_norm(),
            "{site}"
        );
    }
    assert!(dense.forms().values().all(|form| *form == Form::WHOLE));
    let config: Value =
        serde_json::from_slice(&fs::read(place.path().join("dense/config.json")).unwrap()).unwrap();
    assert_eq!(config["model_type"], "qwen2");
}

#[test]
fn the_same_input_gives_the_same_bytes_on_one_thread_and_on_four() {
    let place = folder();
    let model = fixture("networks/mistral");
    let run = |threads: &str| {
        let output = place.path().join("out");
        let arguments = [
            "run",
            "svd",
            text(&model),
            "-o",
            text(&output),
            "--no-evaluate",
            "-q",
            "--keep",
            "0.7",
            "--force",
        ];
        command()
            .args(arguments)
            .env("RAYON_NUM_THREADS", threads)
            .assert()
            .success();
        files(&output)
    };
    assert_eq!(run("1"), run("4"));
}

#[test]
fn the_files_have_the_size_that_the_plan_predicted() {
    let place = folder();
    let model = fixture("networks/llama");
    let limit = 200_000;
    let after = cut(
        &model,
        &place.path().join("out"),
        &["--target-size", &limit.to_string()],
    );
    assert!(
        after.file_bytes() <= limit && after.file_bytes() * 100 > limit * 95,
        "{}",
        after.file_bytes()
    );
}

#[test]
fn a_plan_can_be_printed_edited_and_carried_out() {
    let place = folder();
    let model = fixture("networks/llama");
    let printed = success(&compress(&[
        "plan",
        "svd",
        text(&model),
        "--keep",
        "0.5",
        "--only",
        "value",
    ]));
    let mut plan: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(plan["steps"].as_array().unwrap().len(), 2);
    plan["steps"][1]["step"]["rank"] = 3.into();
    let path = place.path().join("plan.json");
    fs::write(&path, plan.to_string()).unwrap();
    let after = cut(&model, &place.path().join("out"), &["--plan", text(&path)]);
    assert_eq!(after.forms()[&Site::new(1, Role::Value)], Form::low_rank(3));
    assert_eq!(after.forms()[&Site::new(1, Role::Query)], Form::WHOLE);
}

#[test]
fn a_number_format_can_be_asked_for() {
    let place = folder();
    let model = fixture("networks/llama");
    for format in ["f16", "bf16"] {
        let after = cut(
            &model,
            &place.path().join(format),
            &["--keep", "1", "--dtype", format],
        );
        assert_eq!(after.format().to_string(), format);
        let before = Checkpoint::open(&model).unwrap();
        assert!(after.file_bytes() * 2 < before.file_bytes() + 10_000);
    }
}

#[test]
fn a_gguf_model_becomes_a_directory_with_its_tokenizer() {
    let place = folder();
    let model = fixture("gguf/llama.gguf");
    let after = cut(&model, &place.path().join("out"), &["--keep", "0.9"]);
    let before = Checkpoint::open(&model).unwrap();
    let words = "the cat 12";
    let ids = |model: &Checkpoint| {
        model
            .tokenizer()
            .unwrap()
            .encode(words, false)
            .unwrap()
            .get_ids()
            .to_vec()
    };
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(after.format().to_string(), "f16");
}

#[test]
fn an_output_is_replaced_only_when_forced() {
    let place = folder();
    let output = place.path().join("out");
    let model = copy("networks/llama");
    cut(model.path(), &output, &["--keep", "0.5"]);
    let first = fs::metadata(output.join("model.safetensors"))
        .unwrap()
        .len();
    cut(model.path(), &output, &["--keep", "0.25", "--force"]);
    assert!(
        fs::metadata(output.join("model.safetensors"))
            .unwrap()
            .len()
            < first
    );
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn inspecting_shows_every_weight_and_its_spectrum() {
    let result = json(&compress(&[
        "inspect",
        text(&fixture("networks/qwen3")),
        "--json",
        "-q",
    ]));
    let weights = result["weights"].as_array().unwrap();
    assert_eq!(
        weights.len(),
        7 * result["layers"].as_u64().unwrap() as usize
    );
    for weight in weights {
        let (rows, cols) = (
            weight["rows"].as_f64().unwrap(),
            weight["cols"].as_f64().unwrap(),
        );
        let effective = weight["spectrum"]["effective_rank"].as_f64().unwrap();
        assert!(effective > 1.0 && effective <= rows.min(cols), "{weight}");
        assert!(
            (weight["break_even_rank"].as_f64().unwrap() - rows * cols / (rows + cols)).abs()
                < 1e-9
        );
    }
}

#[test]
fn the_methods_and_the_help_read_as_recorded() {
    insta::assert_snapshot!("methods", success(&compress(&["methods"])));
    insta::assert_snapshot!("help", success(&compress(&["--help"])));
    insta::assert_snapshot!(
        "help_run_svd",
        success(&compress(&["run", "svd", "--help"]))
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            success(&compress(&["completions", shell])).contains("compress"),
            "{shell}"
        );
    }
}

#[test]
fn a_run_killed_at_any_moment_goes_on_to_the_same_bytes() {
    let place = folder();
    let output = place.path().join("out");
    let model = fixture("networks/llama");
    let arguments = [
        "run",
        "svd",
        text(&model),
        "-o",
        text(&output),
        "--no-evaluate",
        "-q",
    ];
    let run = || success(&compress(&arguments));
    run();
    let whole = files(&output);
    for delay in 0..20 {
        fs::remove_dir_all(&output).unwrap();
        kill_after(Duration::from_micros(400 * delay), &arguments);
        if !output.exists() {
            run();
        }
        assert_eq!(files(&output), whole, "killed after {} µs", 400 * delay);
        // A kill after the last rename may leave the file of the lock, which then holds nothing.
        let left = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name != "out.compress-lock").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
