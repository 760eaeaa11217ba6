//! What other programs write into a model is followed, or refused by name.

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
};

use common::{compress, copy, fixture, folder, success, text};
use compress_checkpoint::Checkpoint;
use compress_core::{Factor, Role, Site, Store};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A rounded model, as this program writes it; of its folders the second holds it.
fn rounded(more: &[&str]) -> (TempDir, PathBuf) {
    let place = folder();
    let output = place.path().join("model");
    let model = fixture("networks/llama");
    let own = [
        "run",
        "lorc",
        text(&model),
        "-o",
        text(&output),
        "--group",
        "16",
        "--quantizer",
        "nearest",
        "--metric",
        "plain",
        "--no-evaluate",
        "-q",
    ];
    success(&compress(&[&own, more].concat()));
    (place, output)
}

/// Changes a file of JSON.
fn change(path: &Path, change: impl Fn(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

type Contents = (Dtype, Vec<usize>, Vec<u8>);

/// Changes the tensors of a file.
fn change_tensors(path: &Path, change: impl Fn(&mut BTreeMap<String, Contents>)) {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = tensors.iter().map(|(name, view)| {
        let contents = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        (name.to_owned(), contents)
    });
    let mut tensors: BTreeMap<String, Contents> = read.collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[track_caller]
fn refused(model: &Path, words: &[&str]) {
    let error = Checkpoint::open(model).err().map(|error| error.to_string());
    let error = error.expect("what should be refused is read");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn settings_that_would_change_the_model_are_refused_by_name() {
    let (_place, model) = rounded(&[]);
    let config = model.join("config.json");
    let good = fs::read(&config).unwrap();
    let activations = json!({ "num_bits": 8, "type": "int", "dynamic": true });
    for (place, value, word) in [
        ("/kv_cache_scheme", activations.clone(), "kv_cache_scheme"),
        (
            "/transform_config",
            json!({ "config_groups": { "u": {} } }),
            "transform_config",
        ),
        (
            "/sparsity_config",
            json!({ "format": "sparse-24-bitmask" }),
            "sparsity_config",
        ),
        (
            "/quantization_status",
            json!("frozen"),
            "quantization_status",
        ),
        ("/of_tomorrow", json!(1), "of_tomorrow"),
        (
            "/config_groups/group_0/input_activations",
            activations.clone(),
            "input_activations",
        ),
        (
            "/config_groups/group_0/output_activations",
            activations,
            "output_activations",
        ),
        (
            "/config_groups/group_0/weights/type",
            json!("float"),
            "float",
        ),
        (
            "/config_groups/group_0/weights/dynamic",
            json!(true),
            "dynamic",
        ),
        (
            "/config_groups/group_0/weights/actorder",
            json!("group"),
            "actorder",
        ),
        (
            "/config_groups/group_0/weights/actorder",
            json!("dynamic"),
            "actorder",
        ),
        (
            "/config_groups/group_0/weights/actorder",
            json!(true),
            "actorder",
        ),
        (
            "/config_groups/group_0/weights/block_structure",
            json!([16, 16]),
            "block_structure",
        ),
        (
            "/config_groups/group_0/weights/symmetric",
            json!("no"),
            "symmetric",
        ),
    ] {
        change(&config, |json| {
            set(&mut json["quantization_config"], place, value.clone())
        });
        refused(&model, &["config.json", word]);
        fs::write(&config, &good).unwrap();
    }
}

/// Sets a field that may not be there yet.
fn set(json: &mut Value, place: &str, value: Value) {
    let (parent, field) = place.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[field] = value;
}

#[test]
fn settings_that_change_nothing_are_taken() {
    let (_place, model) = rounded(&[]);
    change(&model.join("config.json"), |json| {
        let block = &mut json["quantization_config"];
        for (place, value) in [
            ("/kv_cache_scheme", Value::Null),
            ("/transform_config", json!({})),
            (
                "/sparsity_config",
                json!({ "format": "dense", "targets": [] }),
            ),
            ("/version", json!("0.12.2")),
            ("/global_compression_ratio", json!(1.4)),
            ("/config_groups/group_0/input_activations", Value::Null),
            ("/config_groups/group_0/weights/actorder", json!("static")),
            ("/config_groups/group_0/weights/observer", json!("mse")),
            (
                "/config_groups/group_0/weights/observer_kwargs",
                json!({ "grid": 20 }),
            ),
            ("/config_groups/group_0/weights/strategy", Value::Null),
        ] {
            set(block, place, value);
        }
    });
    Checkpoint::open(&model).unwrap();
}

#[test]
fn a_tensor_of_a_block_that_nothing_computes_with_is_refused_by_name() {
    let (_place, model) = rounded(&[]);
    let weights = model.join("model.safetensors");
    let good = fs::read(&weights).unwrap();
    for name in [
        "model.layers.0.mlp.up_proj.weight_g_idx",
        "model.layers.1.self_attn.q_proj.input_scale",
        "model.layers.1.self_attn.k_scale",
        "model.embed_tokens.weight_scale",
    ] {
        change_tensors(&weights, |tensors| {
            tensors.insert(name.into(), (Dtype::I32, vec![2], vec![0; 8]));
        });
        refused(&model, &[name]);
        fs::write(&weights, &good).unwrap();
    }
    // Wavelengths that old checkpoints hold follow from the config, and other parts are not ours.
    change_tensors(&weights, |tensors| {
        for name in [
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "vision.layers.0.weight",
        ] {
            tensors.insert(name.into(), (Dtype::F32, vec![2], vec![0; 8]));
        }
    });
    Checkpoint::open(&model).unwrap();
}

#[test]
fn scales_of_any_float_are_read_as_they_are() {
    for (dtype, kept) in [(Dtype::F32, u32::MAX), (Dtype::BF16, 0xffff_0000)] {
        let (_place, model) = rounded(&["--asymmetric"]);
        let before = Checkpoint::open(&model).unwrap();
        // Half precision has no digits of a number this small.
        let changed = |scale: f32| f32::from_bits((scale * 1.234e-6).to_bits() & kept);
        change_tensors(&model.join("model.safetensors"), |tensors| {
            let scales = tensors
                .iter_mut()
                .filter(|(name, _)| name.ends_with("weight_scale"));
            for (name, (its, _, data)) in scales {
                let scales = before.numbers(name).unwrap().into_iter().map(changed);
                let bytes = scales.map(|scale| match dtype {
                    Dtype::F32 => scale.to_le_bytes().to_vec(),
                    _ => scale.to_le_bytes()[2..].to_vec(),
                });
                (*its, *data) = (dtype, bytes.flatten().collect());
            }
        });
        let after = Checkpoint::open(&model).unwrap();
        for site in Site::blocks(2) {
            let Factor::Whole(Store::Quantised(base)) = before.factor(site).unwrap() else {
                panic!("{site} is not rounded");
            };
            let scales = base.scales().iter().map(|scale| changed(scale.to_f32()));
            let expected = base.clone().with_fine_scales(scales.collect()).unwrap();
            assert!(!expected.fine_scales().is_empty());
            assert_eq!(
                after.factor(site).unwrap().dense().unwrap(),
                expected.dense()
            );
        }
    }
}

#[test]
fn a_scale_of_another_type_is_refused_in_words_that_hold() {
    let (_place, model) = rounded(&[]);
    let name = "model.layers.0.mlp.up_proj.weight_scale";
    change_tensors(&model.join("model.safetensors"), |tensors| {
        let (its, _, data) = tensors.get_mut(name).unwrap();
        (*its, *data) = (Dtype::F64, vec![0; 4 * data.len()]);
    });
    refused(&model, &[name, "F64", "F32, F16 or BF16"]);
}

/// The correction of one weight, multiplied out; of one that is not corrected, nothing.
fn correction(model: &Path) -> Vec<f32> {
    let model = Checkpoint::open(model).unwrap();
    match model.factor(Site::new(0, Role::Up)).unwrap() {
        Factor::Sum { correction, .. } => correction.dense().unwrap().into_data(),
        _ => Vec::new(),
    }
}

#[test]
fn a_correction_is_scaled_as_its_settings_say() {
    let (place, model) = rounded(&["--rank", "4", "--only", "mlp"]);
    let plain = correction(&model);
    assert!(plain.iter().any(|x| *x != 0.0));
    let near = |found: &[f32], scale: f32| {
        let pairs = found.iter().zip(&plain);
        found.len() == plain.len()
            && pairs.fold(0.0, |most: f32, (a, b)| most.max((a - scale * b).abs())) < 1e-6
    };
    let settings = model.join("adapter/adapter_config.json");
    for (rslora, scale) in [(false, 2.0), (true, 4.0)] {
        change(&settings, |json| {
            json["lora_alpha"] = 8.into();
            json["use_rslora"] = rslora.into();
        });
        assert!(near(&correction(&model), scale));
    }
    // What is written from there has the scale in its numbers, and none in its settings.
    let again = place.path().join("again");
    let arguments = [
        "run",
        "svd",
        text(&model),
        "-o",
        text(&again),
        "--only",
        "query",
    ];
    success(&compress(
        &[&arguments[..], &["--no-evaluate", "-q"]].concat(),
    ));
    assert!(near(&correction(&again), 4.0));
    let settings = fs::read(again.join("adapter/adapter_config.json")).unwrap();
    let settings: Value = serde_json::from_slice(&settings).unwrap();
    assert_eq!(settings["lora_alpha"], settings["r"]);
}

#[test]
fn an_adapter_that_does_more_than_correct_is_refused_by_name() {
    let (_place, model) = rounded(&["--rank", "4"]);
    let settings = model.join("adapter/adapter_config.json");
    let good = fs::read(&settings).unwrap();
    for (field, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("alpha_pattern", json!({ "up_proj": 1 })),
        ("rank_pattern", json!({ "up_proj": 1 })),
        ("modules_to_save", json!(["lm_head"])),
        ("init_lora_weights", json!("pissa")),
        ("bias", json!("all")),
        ("lora_alpha", json!("4")),
        ("r", json!(8)),
    ] {
        change(&settings, |json| json[field] = value.clone());
        let word = if field == "peft_type" { "IA3" } else { field };
        refused(&model, &[word]);
        fs::write(&settings, &good).unwrap();
    }
    Checkpoint::open(&model).unwrap();
}

#[test]
fn an_adapter_whose_tensors_are_the_models_is_refused() {
    let (_place, model) = rounded(&["--rank", "4"]);
    let name = "model.norm.weight";
    change_tensors(
        &model.join("adapter/adapter_model.safetensors"),
        |tensors| {
            tensors.insert(name.into(), (Dtype::F32, vec![64], vec![0; 256]));
        },
    );
    refused(&model, &["adapter_model.safetensors", name]);
}

#[test]
fn a_correction_for_a_weight_that_is_not_rounded_is_refused() {
    let (_place, model) = rounded(&["--rank", "4", "--only", "mlp"]);
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    change_tensors(
        &model.join("adapter/adapter_model.safetensors"),
        |tensors| {
            tensors.insert(name.into(), (Dtype::F16, vec![4, 2], vec![0; 16]));
        },
    );
    refused(&model, &[name]);
}

#[test]
fn the_correction_that_the_config_names_is_read_and_no_other() {
    let (_place, model) = rounded(&["--rank", "4"]);
    let config = model.join("config.json");
    let json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    assert_eq!(json["compress_adapter"], "adapter");
    let is_corrected = |model: &Path| {
        let factor = Checkpoint::open(model)
            .unwrap()
            .factor(Site::new(0, Role::Up));
        matches!(factor.unwrap(), Factor::Sum { .. })
    };
    assert!(is_corrected(&model));
    // Another name for the folder.
    fs::rename(model.join("adapter"), model.join("terms")).unwrap();
    refused(&model, &["config.json", "adapter/adapter_config.json"]);
    change(&config, |json| json["compress_adapter"] = "terms".into());
    assert!(is_corrected(&model));
    for outside in ["../terms", "/etc", "", "a/b"] {
        change(&config, |json| json["compress_adapter"] = outside.into());
        refused(&model, &["config.json", "outside the folder"]);
    }
    fs::rename(model.join("terms"), model.join("adapter")).unwrap();
    // As earlier versions wrote it.
    change(&config, |json| {
        drop(
            json.as_object_mut()
                .unwrap()
                .shift_remove("compress_adapter"),
        )
    });
    assert!(is_corrected(&model));
    // As a hub client of those days left it.
    fs::rename(model.join("adapter"), model.join("elsewhere")).unwrap();
    let record = fs::read(model.join("compression.json")).unwrap();
    let step = json!({ "site": "0.up", "scheme": { "bits": 4 }, "rank": 4 });
    change(&model.join("compression.json"), |json| {
        json["plan"]["steps"] = json!([step])
    });
    refused(&model, &["compression.json", "adapter/adapter_config.json"]);
    fs::write(model.join("compression.json"), record).unwrap();
    fs::rename(model.join("elsewhere"), model.join("adapter")).unwrap();
    // The user's own adapter, for another model or beside one that is no output.
    let settings = model.join("adapter/adapter_config.json");
    change(&settings, |json| {
        json["base_model_name_or_path"] = "org/model".into()
    });
    assert!(!is_corrected(&model));
    change(&settings, |json| {
        json["base_model_name_or_path"] = "..".into()
    });
    fs::remove_file(model.join("compression.json")).unwrap();
    assert!(!is_corrected(&model));
}

/// Perplexity of a fixture with a given change to its tokenizer.
fn perplexity(change_tokenizer: impl Fn(&mut Value)) -> Value {
    let model = copy("networks/llama");
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(tiny.join(name), model.path().join(name)).unwrap();
    }
    change(&model.path().join("tokenizer.json"), change_tokenizer);
    let arguments = [
        "evaluate",
        text(model.path()),
        "--windows",
        "8",
        "--ctx",
        "64",
        "--json",
    ];
    let found = success(&compress(&[&arguments[..], &["-q"]].concat()));
    let found: Value = serde_json::from_str(&found).unwrap();
    json!([found["perplexity"], found["tokens"]])
}

#[test]
fn truncation_and_padding_of_a_tokenizer_are_not_for_texts() {
    let plain = perplexity(|_| ());
    let truncation = |length: usize, stride: usize| json!({ "direction": "Right", "max_length": length, "strategy": "LongestFirst", "stride": stride });
    let padding = json!({
        "strategy": { "Fixed": 100_000 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|story|>",
    });
    // A stride that is no shorter than the length makes the library panic.
    for (length, stride) in [(128, 0), (8, 8), (4, 9), (0, 0)] {
        let cut = truncation(length, stride);
        assert_eq!(perplexity(|json| json["truncation"] = cut.clone()), plain);
    }
    assert_eq!(perplexity(|json| json["padding"] = padding.clone()), plain);
}
