//! What is asked for cannot be done: budgets, patterns, places, plans.

use std::fs;

use serde_json::Value;

use crate::{
    common::{command, compress, copy, fixture, folder, success, text},
    refused,
};

#[test]
fn a_keep_outside_its_range() {
    for keep in ["0", "-0.5", "1.2", "nan", "much"] {
        refused(
            &fixture("networks/llama"),
            &[&format!("--keep={keep}")],
            &["above 0 and at most 1"],
        );
    }
}

#[test]
fn a_target_size_that_cannot_be_reached() {
    refused(
        &fixture("networks/llama"),
        &["--target-size", "1kB"],
        &["cannot be reached"],
    );
}

#[test]
fn a_pattern_that_is_none() {
    refused(
        &fixture("networks/llama"),
        &["--only", "("],
        &["regular expression"],
    );
}

#[test]
fn patterns_that_leave_nothing() {
    refused(
        &fixture("networks/llama"),
        &["--only", "qury"],
        &["no weight to compress"],
    );
}

#[test]
fn a_model_that_is_cut_already() {
    let place = folder();
    let model = place.path().join("cut");
    let good = fixture("networks/llama");
    let arguments = ["-o", text(&model), "--no-evaluate", "-q", "--keep", "0.3"];
    success(&compress(
        &[&["run", "svd", text(&good)], &arguments[..]].concat(),
    ));
    refused(&model, &[], &["factored already"]);
    refused(&model, &["--dense"], &["factored already"]);
}

#[test]
fn an_output_that_exists() {
    let place = folder();
    let model = fixture("networks/llama");
    let result = compress(&[
        "run",
        "svd",
        text(&model),
        "-o",
        text(place.path()),
        "--no-evaluate",
    ]);
    assert_eq!(result.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&result.stderr).contains("--force"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn an_output_inside_the_input_or_around_it() {
    let place = folder();
    let model = place.path().join("model");
    fs::rename(copy("networks/llama").keep(), &model).unwrap();
    let inside = model.join("out");
    for (output, word) in [
        (inside.as_path(), "inside the input"),
        (model.as_path(), "inside the input"),
        (place.path(), "contains the input"),
    ] {
        let result = compress(&[
            "run",
            "svd",
            text(&model),
            "-o",
            text(output),
            "--force",
            "--no-evaluate",
        ]);
        let stderr = String::from_utf8_lossy(&result.stderr);
        assert_eq!(result.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
        assert!(model.join("model.safetensors").exists());
    }
}

#[test]
fn a_folder_that_is_no_output_is_not_replaced_even_by_force() {
    let place = folder();
    let precious = place.path().join("precious.txt");
    fs::write(&precious, "years of work").unwrap();
    let model = fixture("networks/llama");
    let output = ["-o", text(place.path()), "--force", "--no-evaluate"];
    let result = compress(&[&["run", "svd", text(&model)], &output[..]].concat());
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no output of this program"), "{stderr}");
    assert!(precious.exists());
}

#[test]
fn an_output_whose_parent_is_not_there() {
    let model = fixture("networks/llama");
    let result = compress(&[
        "run",
        "svd",
        text(&model),
        "-o",
        "/nowhere/out",
        "--no-evaluate",
    ]);
    assert_eq!(result.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&result.stderr).contains("the folder /nowhere is not there"));
}

#[test]
fn a_text_shorter_than_one_window() {
    let place = folder();
    let (short, output) = (place.path().join("short.txt"), place.path().join("out"));
    fs::write(&short, "Once upon a time.").unwrap();
    let result = compress(&["run", "svd", "-o", text(&output), "--text", text(&short)]);
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("short.txt") && stderr.contains("too few"),
        "{stderr}"
    );
    assert!(!output.exists());
}

#[test]
fn a_plan_that_does_not_fit() {
    let place = folder();
    let plan = place.path().join("plan.json");
    let model = fixture("networks/llama");
    let good = success(&compress(&["plan", "svd", text(&model)]));
    let good: Value = serde_json::from_str(&good).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        fs::write(&plan, json.to_string()).unwrap();
    };
    let arguments = ["--plan", text(&plan)];
    changed(&|json| json["steps"][0]["step"]["rank"] = 0.into());
    refused(&model, &arguments, &["0.query", "rank 0"]);
    changed(&|json| json["steps"][0]["step"]["rank"] = 10_000.into());
    refused(&model, &arguments, &["0.query", "rank 10000"]);
    changed(&|json| json["steps"][0]["step"]["site"] = "99.query".into());
    refused(&model, &arguments, &["99.query"]);
    changed(&|json| json["steps"][0]["step"]["site"] = json["steps"][1]["step"]["site"].clone());
    refused(&model, &arguments, &["two steps"]);
    changed(&|json| json["source"]["digest"] = "0".into());
    refused(&model, &arguments, &["not those of"]);
    fs::write(&plan, "[]").unwrap();
    refused(&model, &arguments, &["plan.json", "not a plan"]);
    fs::remove_file(&plan).unwrap();
    refused(&model, &arguments, &["plan.json"]);
}

#[test]
fn a_disk_that_takes_no_more() {
    // A limit on file sizes makes writing fail as a full disk does.
    let place = folder();
    let output = place.path().join("out");
    let model = fixture("networks/llama");
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_compress");
    let result = assert_cmd::Command::new("sh")
        .args([
            "-c",
            script,
            "sh",
            program,
            "run",
            "svd",
            text(&model),
            "-o",
            text(&output),
            "--no-evaluate",
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("model.safetensors"), "{stderr}");
    assert!(!output.exists());
}

#[test]
fn an_interrupt_names_the_work_directory_and_the_run_goes_on() {
    let place = folder();
    let (output, work) = (
        place.path().join("out"),
        place.path().join("out.compress-work"),
    );
    let arguments = ["run", "svd", "-o", text(&output), "--json"];
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(arguments)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !work.join(".fingerprint").exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be interrupted"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let result = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("out.compress-work"), "{stderr}");
    assert!(work.exists() && !output.exists());
    command().args(arguments).assert().success();
    assert!(output.join("model.safetensors").exists() && !work.exists());
}
