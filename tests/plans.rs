//! A plan decides all that it says, and nothing that it says is ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{compress, fixture, folder, success, text};
use serde_json::{Value, json};

/// A plan for a fixture's network, as `compress plan` prints it.
fn plan(method: &str, more: &[&str]) -> Value {
    let model = fixture("networks/llama");
    let own = ["plan", method, text(&model), "-q"];
    serde_json::from_str(&success(&compress(&[&own, more].concat()))).unwrap()
}

const NEAREST: [&str; 6] = [
    "--group",
    "16",
    "--quantizer",
    "nearest",
    "--metric",
    "plain",
];

/// What a run by a plan says on stderr, and what it leaves at the output.
fn run(method: &str, plan: &Value, place: &Path, more: &[&str]) -> (Option<i32>, String, PathBuf) {
    let (path, output) = (place.join("plan.json"), place.join("out"));
    fs::write(&path, plan.to_string()).unwrap();
    let model = fixture("networks/llama");
    let own = [
        "run",
        method,
        text(&model),
        "--plan",
        text(&path),
        "-o",
        text(&output),
        "--no-evaluate",
        "-q",
    ];
    let result = compress(&[&own, more].concat());
    let stderr = String::from_utf8(result.stderr).unwrap();
    (result.status.code(), stderr, output)
}

/// Expects an error with all of these words, and no output.
#[track_caller]
fn refused(method: &str, plan: &Value, more: &[&str], words: &[&str]) {
    let place = folder();
    let (code, stderr, output) = run(method, plan, place.path(), more);
    assert_eq!(code, Some(2), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
    assert!(!output.exists());
}

fn record(output: &Path) -> Value {
    serde_json::from_slice(&fs::read(output.join("compression.json")).unwrap()).unwrap()
}

#[test]
fn a_plan_of_another_kind_is_refused_by_name() {
    let rounding = plan("lorc", &[&NEAREST[..], &["--rank", "4"]].concat());
    for method in ["svd", "fwsvd", "welore"] {
        refused(
            method,
            &rounding,
            &[],
            &["plan.json", "round", "truncate", "lorc"],
        );
    }
    refused(
        "lorc",
        &plan("svd", &[]),
        &[],
        &["truncate", "round", "svd"],
    );
}

#[test]
fn a_plan_of_another_version_or_of_none_is_refused_with_what_to_do() {
    let good = plan("svd", &[]);
    for (version, found) in [
        (json!(2), "2"),
        (json!("1"), "version"),
        (Value::Null, "none"),
    ] {
        let mut changed = good.clone();
        changed["version"] = version;
        refused("svd", &changed, &[], &["plan.json", found]);
    }
    // As earlier versions of this program wrote it.
    let mut earlier = good;
    for field in ["version", "kind"] {
        earlier.as_object_mut().unwrap().shift_remove(field);
    }
    refused("svd", &earlier, &[], &["`version`", "compress plan"]);
}

#[test]
fn an_unknown_field_of_a_step_is_refused_by_name() {
    let good = plan("lorc", &NEAREST);
    for place in [
        "/steps/0",
        "/steps/0/step",
        "/steps/0/step/options",
        "/steps/0/step/options/scheme",
    ] {
        let mut changed = good.clone();
        changed.pointer_mut(place).unwrap()["surprise"] = 1.into();
        refused("lorc", &changed, &[], &["surprise"]);
    }
}

#[test]
fn a_plan_that_would_never_end_is_refused() {
    for what in ["refinements", "alternations"] {
        let mut endless = plan("lorc", &NEAREST);
        endless["steps"][0]["step"]["options"][what] = 1_000_000_000_000_000_u64.into();
        refused(
            "lorc",
            &endless,
            &[],
            &["0.query", what, "1000000000000000"],
        );
    }
}

#[test]
fn an_option_that_a_plan_decides_is_refused_beside_it() {
    let rounding = plan("lorc", &NEAREST);
    for option in [
        &["--bits", "4"][..],
        &["--group", "16"],
        &["--asymmetric"],
        &["--quantizer", "nearest"],
        &["--scaling", "absmax"],
        &["--refinements", "0"],
        &["--rank", "0"],
        &["--alternations", "0"],
        &["--metric", "plain"],
        &["--tokens", "uniform"],
    ] {
        refused("lorc", &rounding, option, &[option[0], "--plan"]);
    }
    let cut = plan("svd", &[]);
    refused(
        "welore",
        &cut,
        &["--count", "ranks"],
        &["--count", "--plan"],
    );
    refused("svd", &cut, &["--keep", "0.5"], &["--keep", "--plan"]);
}

#[test]
fn steps_say_what_must_be_measured_whatever_the_method_would_plan() {
    // By itself lorc rounds by GPTQ, which needs a text.
    let place = folder();
    let (code, stderr, output) = run("lorc", &plan("lorc", &NEAREST), place.path(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(record(&output)["calibration"], Value::Null);
    let mut measuring = plan("lorc", &NEAREST);
    measuring["steps"][0]["step"]["options"]["quantizer"] = "gptq".into();
    refused("lorc", &measuring, &[], &["--calibrate"]);
}

#[test]
fn what_is_recorded_is_what_was_used() {
    let place = folder();
    let two = plan(
        "lorc",
        &[&NEAREST[..], &["--bits", "2", "--asymmetric"]].concat(),
    );
    let (code, stderr, output) = run("lorc", &two, place.path(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let record = record(&output);
    assert_eq!(record["options"], json!({}));
    assert_eq!(record["plan"]["steps"], two["steps"]);
    let scheme = &record["plan"]["steps"][0]["step"]["options"]["scheme"];
    assert_eq!(
        scheme,
        &json!({ "bits": 2, "group": 16, "symmetric": false })
    );
}
