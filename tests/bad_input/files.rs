//! Damaged model files, and what is given in place of one.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    common::{command, copy, fixture, folder, text},
    refused,
};

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
fn a_gguf_file_cut_short() {
    let place = folder();
    let path = place.path().join("model.gguf");
    let whole = fs::read(fixture("gguf/llama.gguf")).unwrap();
    for length in [0, 3, 20, 500, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(&path, &[], &["model.gguf"]);
    }
}
