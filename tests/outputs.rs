//! Nothing that was there before is lost, whatever a run is told to write, and where.

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
    process::{Child, Output, Stdio},
    thread,
    time::Duration,
};

use common::{command, compress, fixture, folder, success, text};
use serde_json::Value;

/// Every file below a folder, with its contents.
fn manifest(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Runs, expects status 2, and gives what it says.
#[track_caller]
fn failure(arguments: &[&str]) -> String {
    let result = compress(arguments);
    let stderr = String::from_utf8(result.stderr).unwrap();
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn cut<'a>(model: &'a Path, output: &'a Path, keep: &'a str) -> Vec<&'a str> {
    vec![
        "run",
        "svd",
        text(model),
        "-o",
        text(output),
        "--keep",
        keep,
        "--no-evaluate",
        "-q",
    ]
}

fn start(arguments: &[&str]) -> Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finished(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn comparing_under_a_name_that_is_a_path_touches_nothing() {
    let place = folder();
    let victim = place.path().join("victim/data-0.8");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("precious.txt"), "years of work").unwrap();
    let before = manifest(place.path());
    let absolute = place.path().join("victim/data");
    for methods in [text(&absolute), "../data", "svd/x", "svd,../data"] {
        let error = failure(&["compare", "--methods", methods, "--keep", "0.8", "-q"]);
        assert!(error.contains("no name for a variant"), "{error}");
    }
    let variants = place.path().join("variants.toml");
    fs::write(
        &variants,
        format!("['{}']\nmethod = 'svd'\n", absolute.display()),
    )
    .unwrap();
    let error = failure(&[
        "compare",
        text(&fixture("networks/llama")),
        text(&variants),
        "-q",
    ]);
    assert!(error.contains("no name for a variant"), "{error}");
    let error = failure(&["compare", "--methods", "svd,svd", "--keep", "0.8", "-q"]);
    assert!(error.contains("two variants"), "{error}");
    fs::remove_file(&variants).unwrap();
    assert_eq!(manifest(place.path()), before);
}

#[test]
fn of_two_runs_to_one_output_the_second_names_the_first() {
    let place = folder();
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let output = place.path().join("out");
    let model = fixture("networks/llama");
    success(&compress(&cut(&model, &first, "0.5")));
    success(&compress(&cut(&model, &second, "0.25")));
    let mut won = [0, 0];
    for _ in 0..10 {
        let runs = ["0.5", "0.25"].map(|keep| {
            let arguments = [&cut(&model, &output, keep)[..], &["--force"]].concat();
            start(&arguments)
        });
        let ids = runs.each_ref().map(Child::id);
        let results = runs.map(finished);
        // Both may have run, one after the other; whoever did not was told by whom it was kept out.
        for (index, result) in results.iter().enumerate() {
            let stderr = String::from_utf8_lossy(&result.stderr);
            if result.status.success() {
                won[index] += 1;
            } else {
                assert_eq!(result.status.code(), Some(2), "{stderr}");
                let holder = format!("process {}", ids[1 - index]);
                assert!(stderr.contains(&holder), "{stderr}");
            }
        }
        assert!(results.iter().any(|result| result.status.success()));
        let written = fs::read(output.join("model.safetensors")).unwrap();
        let whole =
            [&first, &second].map(|place| fs::read(place.join("model.safetensors")).unwrap());
        assert!(whole.contains(&written));
        let names: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
    assert!(won.iter().sum::<i32>() >= 10);
}

#[test]
fn a_run_in_its_evaluation_keeps_its_output() {
    let place = folder();
    let output = place.path().join("out");
    // All windows: the evaluation takes longer than the second run needs to be refused.
    let run = start(&[
        "run",
        "svd",
        "-o",
        text(&output),
        "--windows",
        "all",
        "-q",
        "--json",
    ]);
    while !output.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    let model = fixture("networks/llama");
    let error = failure(&[&cut(&model, &output, "0.5")[..], &["--force"]].concat());
    assert!(error.contains(&format!("process {}", run.id())), "{error}");
    let result = finished(run);
    assert!(
        result.status.success(),
        "{}",
        String::from_utf8_lossy(&result.stderr)
    );
    let record = fs::read(output.join("compression.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["source"]["name"], "tiny (shipped)");
    assert!(record["report"]["after"]["perplexity"].is_number());
}

#[test]
fn neighbours_with_names_like_ours_are_left_alone() {
    let place = folder();
    let output = place.path().join("out");
    let model = fixture("networks/llama");
    success(&compress(&cut(&model, &output, "0.5")));
    let neighbours = [
        "out.compress-old",
        "out.old",
        ".out",
        "out.compress-workshop",
        "out2",
    ];
    for name in neighbours {
        fs::create_dir(place.path().join(name)).unwrap();
        fs::write(place.path().join(name).join("precious.txt"), name).unwrap();
    }
    fs::write(place.path().join("out.compress-old.txt"), "mine").unwrap();
    success(&compress(
        &[&cut(&model, &output, "0.25")[..], &["--force"]].concat(),
    ));
    for name in neighbours {
        let kept = fs::read_to_string(place.path().join(name).join("precious.txt"));
        assert_eq!(kept.unwrap(), name);
    }
    // The output, five folders and a file: nothing of ours is left.
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 7);
}

#[test]
fn a_folder_with_a_file_called_compression_json_is_no_output_of_ours() {
    let place = folder();
    let output = place.path().join("out");
    fs::create_dir(&output).unwrap();
    for contents in ["", "{}", "{\"method\": \"zip\"}", "not json"] {
        fs::write(output.join("compression.json"), contents).unwrap();
        let model = fixture("networks/llama");
        let error = failure(&[&cut(&model, &output, "0.5")[..], &["--force"]].concat());
        assert!(error.contains("no output of this program"), "{error}");
        assert!(output.join("compression.json").exists());
    }
}

#[test]
fn nothing_that_a_run_reads_is_replaced_by_it() {
    let place = folder();
    let (model, original) = (place.path().join("model"), place.path().join("original"));
    let tiny = fixture("../../models/tiny");
    success(&compress(&cut(&tiny, &original, "1")));
    success(&compress(&cut(&original, &model, "0.5")));
    let corpus = tiny.join("calibration.txt");
    let inside = original.join("corpus.txt");
    fs::copy(&corpus, &inside).unwrap();
    let plan = original.join("plan.json");
    let printed = success(&compress(&["plan", "svd", text(&tiny), "-q"]));
    fs::write(&plan, printed).unwrap();
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&original, &link).unwrap();
    let before = manifest(place.path());
    let tune = |more: &[&str]| {
        let base = [
            "tune",
            text(&model),
            "--steps",
            "1",
            "--force",
            "-q",
            "--no-evaluate",
        ];
        failure(&[&base[..], more].concat())
    };
    let run = |more: &[&str]| {
        let base = [
            "run",
            "svd",
            text(&tiny),
            "-o",
            text(&original),
            "--force",
            "-q",
        ];
        failure(&[&base[..], more].concat())
    };
    let (original, corpus, inside) = (text(&original), text(&corpus), text(&inside));
    for error in [
        tune(&["--original", original, "-o", original, "--corpus", corpus]),
        tune(&[
            "--original",
            text(&link),
            "-o",
            original,
            "--corpus",
            corpus,
        ]),
        tune(&[
            "--original",
            text(&link),
            "-o",
            text(&link),
            "--corpus",
            corpus,
        ]),
        tune(&["-o", text(&model), "--corpus", corpus]),
        tune(&["-o", original, "--corpus", inside]),
        run(&["--text", inside]),
        run(&["--plan", text(&plan), "--no-evaluate"]),
        run(&["--metric", "activation", "--calibrate", inside]),
        run(&[
            "--metric",
            "activation",
            "--evidence",
            &format!("{original}/evidence"),
        ]),
    ] {
        assert!(error.contains("the input"), "{error}");
    }
    assert_eq!(manifest(place.path()), before);
}

#[test]
fn a_model_that_cannot_be_run_is_written_all_the_same() {
    let place = folder();
    let output = place.path().join("out");
    // Logits of 10³⁸ times whatever: infinite.
    let single = place.path().join("single");
    let tiny = fixture("../../models/tiny");
    success(&compress(
        &[&cut(&tiny, &single, "1")[..], &["--dtype", "f32"]].concat(),
    ));
    fs::remove_file(single.join("compression.json")).unwrap();
    let path = single.join("model.safetensors");
    let mut file = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let place_of = |end: usize| {
        header["model.norm.weight"]["data_offsets"][end]
            .as_u64()
            .unwrap()
    };
    let range = 8 + length + place_of(0) as usize..8 + length + place_of(1) as usize;
    for number in file[range].chunks_exact_mut(4) {
        number.copy_from_slice(&3e38_f32.to_le_bytes());
    }
    fs::write(&path, file).unwrap();
    let arguments = [
        &cut(&single, &output, "0.5")[..7],
        &["-q", "--windows", "2"],
    ]
    .concat();
    let error = failure(&arguments);
    assert!(
        error.contains("is finished, but was not evaluated"),
        "{error}"
    );
    assert!(error.contains("logits that are not finite"), "{error}");
    let record = fs::read(output.join("compression.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert!(record.get("report").is_none());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn a_picture_or_log_that_cannot_be_written_shows_before_the_work() {
    let place = folder();
    let output = place.path().join("out");
    let tiny = fixture("../../models/tiny");
    let corpus = tiny.join("calibration.txt");
    let bad = place.path().join("nowhere/curve.svg");
    let (output, bad) = (text(&output), text(&bad));
    let tune = [
        "tune",
        text(&tiny),
        "--train",
        "factors",
        "--corpus",
        text(&corpus),
        "-o",
        output,
    ];
    for (arguments, option) in [
        (&tune[..], "--plot"),
        (&tune[..], "--log"),
        (&["run", "svd", "-o", output][..], "--plot"),
        (&["inspect"][..], "--plot"),
        (
            &["compare", "--methods", "svd", "--keep", "0.5"][..],
            "--plot",
        ),
    ] {
        for path in [bad, text(place.path())] {
            let error = failure(&[arguments, &[option, path, "-q"]].concat());
            assert!(error.contains(path), "{error}");
        }
    }
    let error = failure(&[&tune[..], &["--log", text(&corpus), "-q"]].concat());
    assert!(error.contains("is read by this run"), "{error}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_comparison_that_ends_early_leaves_no_models() {
    let place = folder();
    let passing = place.path().join("compress/passing");
    let models = || fs::read_dir(&passing).map_or(0, Iterator::count);
    let begin = || {
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
            .args(["compare", "--methods", "svd", "--keep", "0.9,0.8,0.7", "-q"])
            .env("XDG_CACHE_HOME", place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while models() < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        child
    };
    let mut interrupted = begin();
    let id = interrupted.id().to_string();
    let kill = |signal: &str, id: &str| {
        std::process::Command::new("kill")
            .args([signal, id])
            .status()
            .unwrap();
    };
    kill("-TERM", &id);
    assert_eq!(interrupted.wait().unwrap().code(), Some(2));
    assert!(models() <= 1); // the lock's file at most
    let mut killed = begin();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(models() >= 2);
    // The next one removes what a killed one has left.
    let next = command()
        .args(["compare", "--methods", "svd", "--keep", "0.9", "-q"])
        .args(["--windows", "2"])
        .env("XDG_CACHE_HOME", place.path())
        .output()
        .unwrap();
    success(&next);
    assert_eq!(models(), 0);
}

#[test]
fn no_picture_or_log_replaces_a_file_of_a_model_or_lies_in_the_output() {
    let place = folder();
    let (model, output) = (place.path().join("model"), place.path().join("out"));
    let tiny = fixture("../../models/tiny");
    success(&compress(&cut(&tiny, &model, "0.5")));
    let corpus = tiny.join("calibration.txt");
    let before = manifest(place.path());
    let (name, out) = (text(&model), text(&output));
    let tune = ["tune", name, "--corpus", text(&corpus), "-o", out];
    for (arguments, option) in [
        (&["run", "svd", name, "-o", out][..], "--plot"),
        (&["plan", "svd", name][..], "--plot"),
        (&["inspect", name][..], "--plot"),
        (
            &["compare", name, "--methods", "svd", "--keep", "0.5"][..],
            "--plot",
        ),
        (&tune[..], "--plot"),
        (&tune[..], "--log"),
    ] {
        for file in ["model.safetensors", "config.json", "new.svg"] {
            let path = model.join(file);
            let error = failure(&[arguments, &[option, text(&path), "-q"]].concat());
            assert!(error.contains("is read by this run"), "{error}");
        }
    }
    for path in [out, &format!("{out}.compress-lock")] {
        let run = ["run", "svd", name, "-o", out, "--plot", path, "-q"];
        assert!(failure(&run).contains("output"));
    }
    assert_eq!(manifest(place.path()), before);
}

#[test]
fn what_a_link_in_a_model_leads_to_is_not_replaced() {
    let place = folder();
    let (base, linked) = (place.path().join("base"), place.path().join("linked"));
    success(&compress(&cut(&fixture("../../models/tiny"), &base, "1")));
    fs::create_dir(&linked).unwrap();
    for file in ["config.json", "tokenizer.json", "modeling_lowrank.py"] {
        let _ = fs::copy(base.join(file), linked.join(file));
    }
    let weights = base.join("model.safetensors");
    std::os::unix::fs::symlink(&weights, linked.join("model.safetensors")).unwrap();
    let before = manifest(place.path());
    let error = failure(&[&cut(&linked, &base, "0.5")[..], &["--force"]].concat());
    assert!(error.contains("contains the input"), "{error}");
    assert_eq!(manifest(place.path()), before);
}

#[test]
fn what_has_the_name_of_a_lock_and_is_none_is_left_alone() {
    let place = folder();
    let output = place.path().join("out");
    let lock = place.path().join("out.compress-lock");
    let tiny = fixture("../../models/tiny");
    fs::write(&lock, "a letter").unwrap();
    assert!(failure(&cut(&tiny, &output, "0.5")).contains("no lock"));
    assert_eq!(fs::read(&lock).unwrap(), b"a letter");
    let letter = place.path().join("letter");
    fs::rename(&lock, &letter).unwrap();
    std::os::unix::fs::symlink(&letter, &lock).unwrap();
    assert!(failure(&cut(&tiny, &output, "0.5")).contains("no lock"));
    assert_eq!(fs::read(&letter).unwrap(), b"a letter");
}

#[test]
fn a_name_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = folder();
    let output = place.path().join(std::ffi::OsStr::from_bytes(b"out\xff"));
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(["run", "svd", "--windows", "1", "-q", "-o"])
        .arg(&output)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(output.join("model.safetensors").exists());
}

#[test]
fn measurements_are_not_kept_where_the_output_goes() {
    let place = folder();
    let output = place.path().join("out");
    let evidence = output.join("evidence");
    let tiny = fixture("../../models/tiny");
    let more = ["--metric", "activation", "--evidence", text(&evidence)];
    let error = failure(&[&cut(&tiny, &output, "0.5")[..], &more].concat());
    assert!(error.contains("contains the input"), "{error}");
    assert!(!output.exists());
}

#[test]
fn a_comparison_replaces_nothing_that_it_reads() {
    let place = folder();
    let variants = place.path().join("cut/variants.toml");
    fs::create_dir(place.path().join("cut")).unwrap();
    fs::write(&variants, "[cut]\nmethod = \"svd\"\nforce = true\n").unwrap();
    let before = manifest(place.path());
    let error = failure(&[
        "compare",
        text(&fixture("../../models/tiny")),
        text(&variants),
        "-o",
        text(place.path()),
        "-q",
    ]);
    assert!(error.contains("variants.toml"), "{error}");
    assert_eq!(manifest(place.path()), before);
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_a_run_that_nobody_listens_to() {
    let place = folder();
    let model = fixture("../../models/tiny");
    let (corpus, output) = (model.join("calibration.txt"), place.path().join("out"));
    let arguments = ["tune", text(&model), "--train", "factors", "--corpus"];
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(arguments)
        .args([text(&corpus), "--steps", "100000", "-o", text(&output)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stderr.take());
    thread::sleep(Duration::from_millis(500));
    let id = run.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status()
        .unwrap();
    for _ in 0..200 {
        if let Some(status) = run.try_wait().unwrap() {
            assert_eq!(status.code(), Some(2));
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    run.kill().unwrap();
    panic!("it still runs 20 seconds after SIGTERM");
}
