//! Bad input gets an error that names the file or tensor, exit status 2, and no output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{command, compress, copy, fixture, folder, text};
use serde_json::{Value, json};

/// Cuts the model and expects an error with all of these words.
#[track_caller]
fn refused(model: &Path, more: &[&str], words: &[&str]) {
    let place = folder();
    let output = place.path().join("out");
    let arguments = [
        &[
            "run",
            "svd",
            text(model),
            "-o",
            text(&output),
            "--no-evaluate",
            "-q",
        ],
        more,
    ]
    .concat();
    let result = compress(&arguments);
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "something was left: {left:?}, {stderr}");
}

/// Changes the `config.json` of a good model.
#[track_caller]
fn refused_config(change: impl Fn(&mut Value), words: &[&str]) {
    let model = copy("networks/llama");
    let path = model.path().join("config.json");
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
    refused(model.path(), &[], &[&["config.json"], words].concat());
}

/// Changes the header of the safetensors file of a good model, its data staying as it is.
#[track_caller]
fn refused_header(change: impl Fn(&mut Value), words: &[&str]) {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    let (mut header, data) = split(&fs::read(&path).unwrap());
    change(&mut header);
    fs::write(&path, joined(&header, &data)).unwrap();
    refused(model.path(), &[], &[&["model.safetensors"], words].concat());
}

fn split(file: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (
        serde_json::from_slice(&file[8..8 + length]).unwrap(),
        file[8 + length..].to_vec(),
    )
}

fn joined(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

const WEIGHT: &str = "model.layers.1.mlp.up_proj.weight";

/// Puts a number into a good model's weight.
#[track_caller]
fn refused_number(name: &str, number: f32, words: &[&str]) {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    let (header, mut data) = split(&fs::read(&path).unwrap());
    let start = header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    data[start..start + 4].copy_from_slice(&number.to_le_bytes());
    fs::write(&path, joined(&header, &data)).unwrap();
    refused(model.path(), &[], words);
}

#[test]
fn a_model_that_is_not_there() {
    refused(
        Path::new("/nowhere/model"),
        &[],
        &["/nowhere/model", "no such file or directory"],
    );
}

#[test]
fn a_folder_without_a_model() {
    refused(folder().path(), &[], &["config.json"]);
}

#[test]
fn a_folder_without_weights() {
    let model = copy("networks/llama");
    fs::remove_file(model.path().join("model.safetensors")).unwrap();
    refused(model.path(), &[], &["no model.safetensors"]);
}

#[test]
fn a_file_that_stands_for_another() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n";
    let page = "\n<!DOCTYPE html>\n<html><body>sign in</body></html>";
    for (contents, word) in [(pointer, "git lfs pull"), (page, "a web page")] {
        for name in ["model.safetensors", "config.json"] {
            let model = copy("networks/llama");
            fs::write(model.path().join(name), contents).unwrap();
            refused(model.path(), &[], &[name, word]);
        }
    }
    let gguf = folder();
    let path = gguf.path().join("model.gguf");
    fs::write(&path, pointer).unwrap();
    refused(&path, &[], &["model.gguf", "git lfs pull"]);
}

#[test]
fn a_path_beside_the_right_one() {
    let model = copy("networks/llama");
    for name in ["model.safetensors", "config.json"] {
        let words = [name, "give the folder"];
        refused(&model.path().join(name), &[], &words);
    }
    let shard = model.path().join("model-00001-of-00002.safetensors");
    fs::rename(model.path().join("model.safetensors"), shard).unwrap();
    let words = ["model-00001-of-00002", "model.safetensors.index.json"];
    refused(model.path(), &[], &words);

    let cache = folder();
    fs::create_dir_all(cache.path().join("snapshots/0123abc")).unwrap();
    refused(cache.path(), &[], &["hub cache", "snapshots/0123abc"]);
}

#[test]
fn weights_that_cannot_be_read() {
    let model = copy("networks/llama_sharded");
    let shard = first_shard(model.path());
    fs::remove_file(&shard).unwrap();
    fs::create_dir(&shard).unwrap();
    refused(model.path(), &[], &[text(&shard)]);
}

fn first_shard(model: &Path) -> std::path::PathBuf {
    let mut shards: Vec<_> = fs::read_dir(model)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    shards.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "safetensors")
    });
    shards.retain(|path| path.file_name().unwrap() != "expected.safetensors");
    shards.sort();
    shards.swap_remove(0)
}

#[test]
fn a_safetensors_file_cut_short_anywhere() {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, 7, 8, 9, 200, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(model.path(), &[], &["model.safetensors"]);
    }
}

#[test]
fn a_safetensors_header_longer_than_the_file() {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    for length in [u64::MAX, u64::MAX / 2, 1 << 40, 100_000_001] {
        fs::write(&path, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        refused(
            model.path(),
            &[],
            &["model.safetensors", "not a safetensors file"],
        );
    }
}

#[test]
fn tensors_that_overlap() {
    let other = WEIGHT.replace("up_proj", "gate_proj");
    refused_header(
        |header| header[WEIGHT]["data_offsets"] = header[&other]["data_offsets"].clone(),
        &["not a safetensors file", "offset"],
    );
}

#[test]
fn a_tensor_whose_shape_does_not_fill_its_bytes() {
    refused_header(|header| header[WEIGHT]["shape"] = json!([7, 7]), &[]);
}

#[test]
fn a_tensor_with_a_shape_that_overflows() {
    refused_header(|header| header[WEIGHT]["shape"] = json!([u64::MAX, 2]), &[]);
}

#[test]
fn a_tensor_of_numbers_that_cannot_be_computed_with() {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    let (mut header, data) = split(&fs::read(&path).unwrap());
    header[WEIGHT]["dtype"] = "I32".into();
    fs::write(&path, joined(&header, &data)).unwrap();
    refused(model.path(), &[], &[WEIGHT, "I32"]);
}

#[test]
fn a_tensor_that_is_missing() {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    let (mut header, data) = split(&fs::read(&path).unwrap());
    let entry = header.as_object_mut().unwrap().remove(WEIGHT).unwrap();
    header["something.else"] = entry;
    fs::write(&path, joined(&header, &data)).unwrap();
    refused(model.path(), &[], &["no tensor", WEIGHT]);
}

/// Points one tensor of a good index somewhere else.
#[track_caller]
fn refused_index(shard: &str, words: &[&str]) {
    let model = copy("networks/llama_sharded");
    let path = model.path().join("model.safetensors.index.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let map = json["weight_map"].as_object_mut().unwrap();
    *map.values_mut().next().unwrap() = shard.into();
    fs::write(&path, json.to_string()).unwrap();
    refused(model.path(), &[], words);
}

#[test]
fn an_index_that_names_a_shard_that_is_not_there() {
    refused_index(
        "model-00009-of-00003.safetensors",
        &["model-00009-of-00003.safetensors", "No such file"],
    );
}

#[test]
fn an_index_that_leaves_its_folder() {
    for shard in [
        "../model.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        ".",
    ] {
        refused_index(shard, &["index.json", "outside the folder"]);
    }
}

#[test]
fn a_packed_weight_that_claims_more_rows_than_there_are_bytes_in_the_world() {
    let model = copy("networks/llama");
    let path = model.path().join("model.safetensors");
    let (mut header, data) = split(&fs::read(&path).unwrap());
    let packed = WEIGHT.replace(".weight", ".down.weight_packed");
    let end = data.len();
    header[&packed] =
        json!({ "dtype": "I32", "shape": [(1_u64 << 60) + 1, 0], "data_offsets": [end, end] });
    fs::write(&path, joined(&header, &data)).unwrap();
    let config = model.path().join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let weights = json!({ "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32 });
    json["quantization_config"] = json!({
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } },
    });
    fs::write(&config, json.to_string()).unwrap();
    refused(model.path(), &[], &[&packed, "no factor has that shape"]);
}

#[test]
fn no_error_says_anything_twice() {
    let place = folder();
    let model = place.path().join("model");
    fs::rename(copy("networks/llama").keep(), &model).unwrap();
    let missing = place.path().join("missing");
    fs::create_dir(&missing).unwrap();
    let plan = place.path().join("plan.json");
    fs::write(&plan, "{").unwrap();
    let (text_of, model) = (|path: &Path| text(path).to_owned(), text(&model).to_owned());
    let no_gguf = text_of(&fixture("networks/llama/config.json"));
    let nowhere = "/nowhere/out".to_owned();
    let run = |more: &[&str]| {
        [&["run", "svd", &model, "--no-evaluate"], more]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let cases = [
        vec!["evaluate".to_owned(), text_of(&missing)],
        vec!["evaluate".to_owned(), no_gguf],
        vec![
            "evaluate".to_owned(),
            model.clone(),
            "--text".to_owned(),
            text_of(&missing),
        ],
        vec!["evaluate".to_owned(), "org/model".to_owned()],
        run(&["-o", &nowhere]),
        run(&[
            "-o",
            &text_of(&missing.join("out")),
            "--plan",
            &text_of(&plan),
        ]),
        run(&[
            "-o",
            &text_of(&missing.join("out")),
            "--metric",
            "activation",
            "--calibrate",
            &text_of(&plan),
            "--evidence",
            "/proc/nowhere",
        ]),
    ];
    for arguments in cases {
        let result = command()
            .args(&arguments)
            .env("HF_HOME", "/proc/nowhere")
            .env("HF_ENDPOINT", "http://127.0.0.1:1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&result.stderr).into_owned();
        assert_eq!(result.status.code(), Some(2), "{stderr}");
        let error = stderr
            .lines()
            .find_map(|line| line.strip_prefix("error: "))
            .unwrap();
        let parts: Vec<&str> = error.split(": ").collect();
        let mut unique = parts.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), parts.len(), "{error}");
    }
}

#[test]
fn an_index_without_a_map() {
    let model = copy("networks/llama_sharded");
    fs::write(model.path().join("model.safetensors.index.json"), "{}").unwrap();
    refused(model.path(), &[], &["weight_map"]);
}

#[test]
fn a_config_that_is_not_json() {
    let model = copy("networks/llama");
    fs::write(model.path().join("config.json"), "{").unwrap();
    refused(model.path(), &[], &["config.json", "not valid JSON"]);
}

#[test]
fn a_config_without_a_field_that_is_needed() {
    for field in [
        "hidden_size",
        "num_attention_heads",
        "vocab_size",
        "model_type",
    ] {
        refused_config(
            |json| drop(json.as_object_mut().unwrap().remove(field)),
            &[field, "missing"],
        );
    }
}

#[test]
fn a_config_that_contradicts_itself() {
    refused_config(
        |json| json["num_key_value_heads"] = 3.into(),
        &["num_key_value_heads", "does not divide"],
    );
    refused_config(|json| json["head_dim"] = 15.into(), &["head_dim", "odd"]);
    refused_config(
        |json| json["hidden_size"] = (-4).into(),
        &["hidden_size", "not a size"],
    );
    refused_config(
        |json| json["hidden_act"] = "gelu".into(),
        &["hidden_act", "silu"],
    );
    refused_config(
        |json| json["rope_scaling"] = json!({ "rope_type": "yarn" }),
        &["rope_scaling", "yarn"],
    );
}

#[test]
fn settings_that_change_the_function_are_not_skipped() {
    for (field, value) in [
        ("partial_rotary_factor", json!(0.5)),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
        ),
        ("final_logit_softcapping", json!(30.0)),
        ("residual_multiplier", json!(0.22)),
        ("num_local_experts", json!(8)),
        ("rope_interleaved", json!(true)),
        ("rope_scaling", json!({ "factor": 2.0 })),
        (
            "rope_parameters",
            json!({ "rope_type": "default", "partial_rotary_factor": 0.25 }),
        ),
    ] {
        let named = if field == "rope_parameters" {
            "partial_rotary_factor"
        } else {
            field
        };
        refused_config(|json| json[field] = value.clone(), &["config.json", named]);
    }
    // In both versions of transformers the older name counts where there are both.
    refused_config(
        |json| {
            json["rope_scaling"] = json!({ "rope_type": "yarn", "factor": 4.0 });
            json["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 1e4 });
        },
        &["rope_scaling", "yarn"],
    );
}

#[test]
fn a_config_that_contradicts_the_weights() {
    let model = copy("networks/llama");
    let path = model.path().join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["intermediate_size"] = 97.into();
    fs::write(&path, json.to_string()).unwrap();
    refused(model.path(), &[], &["gate_proj", "config.json asks for"]);
}

#[test]
fn an_architecture_that_is_not_supported() {
    refused_config(
        |json| json["model_type"] = "mamba".into(),
        &["mamba", "llama, mistral, qwen2, qwen3"],
    );
}

#[test]
fn weights_that_are_not_finite() {
    refused_number(WEIGHT, f32::NAN, &["1.up", "NaN"]);
    refused_number(WEIGHT, f32::INFINITY, &["1.up", "inf"]);
}

#[test]
fn other_tensors_that_are_not_finite() {
    for name in ["model.norm.weight", "model.embed_tokens.weight"] {
        for number in [f32::NAN, f32::NEG_INFINITY] {
            refused_number(name, number, &[name, "NaN or infinity"]);
        }
    }
}

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
    common::success(&compress(
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
    let good = common::success(&compress(&["plan", "svd", text(&model)]));
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
fn a_gguf_file_cut_short() {
    let place = folder();
    let path = place.path().join("model.gguf");
    let whole = fs::read(fixture("gguf/llama.gguf")).unwrap();
    for length in [0, 3, 20, 500, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(&path, &[], &["model.gguf"]);
    }
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
