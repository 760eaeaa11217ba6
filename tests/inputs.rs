//! Models as people have them: saved in parts, with classes beside the usual one, and files that contradict themselves
//! without harm.

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
};

use common::{compress, copy, edit_config, edit_tensors, folder, success, tensors, text};
use compress_checkpoint::Checkpoint;
use compress_models::{Decoder, Device};
use serde_json::{Value, json};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Cuts a model without running it, and gives the place of the output with what was said.
fn run(model: &Path, more: &[&str]) -> (tempfile::TempDir, std::process::Output) {
    let place = folder();
    let output = place.path().join("out");
    let arguments = [
        "run",
        more[0],
        text(model),
        "-o",
        text(&output),
        "--no-evaluate",
    ];
    let result = compress(&[&arguments, &more[1..]].concat());
    (place, result)
}

/// A copy of the model that is part of the program, with its tokenizer.
fn shipped(place: &Path) -> PathBuf {
    let model = place.join("model");
    success(&compress(&[
        "run",
        "svd",
        "--keep",
        "1",
        "--no-evaluate",
        "-o",
        text(&model),
    ]));
    model
}

/// A text to calibrate on.
fn sample(place: &Path) -> PathBuf {
    let sample = place.join("text.txt");
    fs::write(&sample, "Once upon a time there was a girl. ".repeat(400)).unwrap();
    sample
}

fn config(model: &Path) -> Value {
    serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap()
}

/// The logits of a few tokens.
fn logits(model: &Path) -> Vec<f32> {
    let decoder = Decoder::load(&Checkpoint::open(model).unwrap(), &Device::flex()).unwrap();
    let hidden = decoder.hidden(&[&[1, 5, 9, 40, 3]]).unwrap();
    let [_, time, width] = hidden.dims();
    let logits = decoder.logits(hidden.reshape([time, width]));
    logits.into_data().as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn a_head_that_differs_from_the_embedding_it_is_tied_to_counts() {
    let model = copy("networks/llama");
    let tied = logits(model.path());
    // A copy of the embedding is what exporters write, and changes nothing.
    edit_tensors(model.path(), |all| {
        drop(all.insert(HEAD.into(), all[EMBEDDING].clone()))
    });
    assert_eq!(logits(model.path()), tied);
    assert!(
        Checkpoint::open(model.path())
            .unwrap()
            .warnings()
            .is_empty()
    );
    let (place, result) = run(model.path(), &["svd", "--dense"]);
    success(&result);
    assert!(!tensors(&place.path().join("out")).contains_key(HEAD));
    // Another one is the head.
    edit_tensors(model.path(), |all| {
        all.get_mut(HEAD)
            .unwrap()
            .1
            .iter_mut()
            .for_each(|x| *x *= 2.0);
    });
    let double: Vec<f32> = tied.iter().map(|x| x * 2.0).collect();
    assert_eq!(logits(model.path()), double);
    let (place, result) = run(model.path(), &["svd", "--dense"]);
    let output = place.path().join("out");
    assert!(success(&result).is_empty() || result.status.success());
    assert!(String::from_utf8_lossy(&result.stderr).contains("the file has another one"));
    assert_eq!(config(&output)["tie_word_embeddings"], false);
    assert!(tensors(&output).contains_key(HEAD));
}

#[test]
fn a_decoder_that_was_saved_alone_is_the_same_model() {
    let model = copy("networks/llama");
    let whole = logits(model.path());
    edit_tensors(model.path(), |all| {
        *all = std::mem::take(all)
            .into_iter()
            .map(|(name, tensor)| (name.replacen("model.", "", 1), tensor))
            .collect();
    });
    assert_eq!(logits(model.path()), whole);
    // Written with the names of a whole model, which every client reads.
    let (place, result) = run(model.path(), &["svd", "--dense"]);
    success(&result);
    assert!(tensors(&place.path().join("out")).contains_key(EMBEDDING));
}

#[test]
fn a_model_without_a_head_is_cut_but_not_asked_for_tokens() {
    let model = copy("networks/llama");
    edit_config(model.path(), |json| {
        json["architectures"] = json!(["LlamaModel"]);
        json["tie_word_embeddings"] = false.into();
    });
    let (place, result) = run(model.path(), &["svd"]);
    success(&result);
    let config = config(&place.path().join("out"));
    assert_eq!(config["architectures"], json!(["LowRankLlamaModel"]));
    // Where there are a tokenizer and a text, only the head is missing for it.
    let place = folder();
    let model = shipped(place.path());
    edit_config(&model, |json| {
        json["architectures"] = json!(["LlamaModel"]);
        json["tie_word_embeddings"] = false.into();
    });
    edit_tensors(&model, |all| drop(all.remove(HEAD)));
    let sample = sample(place.path());
    let evaluate = compress(&["evaluate", text(&model)]);
    let measured = ["fwsvd", "--calibrate", text(&sample), "--samples", "2"];
    let (_, gradients) = run(&model, &measured);
    for refused in [evaluate, gradients] {
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("LlamaModel has no output head"), "{stderr}");
    }
}

#[test]
fn a_classifier_stays_one() {
    let model = copy("networks/llama");
    edit_config(model.path(), |json| {
        json["architectures"] = json!(["LlamaForSequenceClassification"]);
    });
    edit_tensors(model.path(), |all| {
        all.insert("score.weight".into(), (vec![3, 64], vec![0.5; 192]));
    });
    let nearest = [
        "lorc",
        "--quantizer",
        "nearest",
        "--metric",
        "plain",
        "--rank",
        "0",
    ];
    let (place, result) = run(model.path(), &nearest);
    success(&result);
    let config = config(&place.path().join("out"));
    let class = json!(["LlamaForSequenceClassification"]);
    assert_eq!(config["architectures"], class);
    // Its layer would be taken for a packed one.
    let ignored = config["quantization_config"]["ignore"].as_array().unwrap();
    assert!(ignored.contains(&json!("score")), "{ignored:?}");
    let card = fs::read_to_string(place.path().join("out/README.md")).unwrap();
    assert!(
        card.contains("AutoModelForSequenceClassification.from_pretrained"),
        "{card}"
    );
    assert!(!card.contains("vllm serve") && !card.contains("compress evaluate"));
    // The modelling file of pairs has no such class.
    let (place, result) = run(model.path(), &["svd"]);
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("LlamaForSequenceClassification") && stderr.contains("--dense"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    // PEFT would look for a model that predicts tokens.
    let corrected = [&nearest[..6], &["4"]].concat();
    let (_, result) = run(model.path(), &corrected);
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("corrections") && stderr.contains("--rank 0"),
        "{stderr}"
    );
    success(&run(model.path(), &["svd", "--dense"]).1);
}

#[test]
fn a_class_of_the_models_own_code_keeps_its_way_there() {
    let model = copy("networks/llama");
    let map = json!({ "AutoModel": "modeling_reward.LlamaForReward" });
    edit_config(model.path(), |json| {
        json["architectures"] = json!(["LlamaForReward"]);
        json["auto_map"] = map.clone();
    });
    fs::write(model.path().join("modeling_reward.py"), "# code").unwrap();
    let (place, result) = run(model.path(), &["svd", "--dense"]);
    success(&result);
    let output = place.path().join("out");
    assert_eq!(config(&output)["auto_map"], map);
    assert!(output.join("modeling_reward.py").exists());
    let card = fs::read_to_string(output.join("README.md")).unwrap();
    assert!(card.contains("AutoModel.from_pretrained(") && card.contains("trust_remote_code=True"));
}

#[test]
fn rotary_settings_of_newer_files_are_repeated_where_older_readers_look() {
    let model = copy("networks/llama");
    let scaling = json!({
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
    });
    let mut newer = scaling.clone();
    newer["rope_theta"] = 5e5.into();
    edit_config(model.path(), |json| {
        let json = json.as_object_mut().unwrap();
        json.remove("rope_theta");
        json.remove("rope_scaling");
        json.insert("rope_parameters".into(), newer.clone());
    });
    let (place, result) = run(model.path(), &["svd"]);
    success(&result);
    let config = config(&place.path().join("out"));
    assert_eq!(config["rope_parameters"], newer);
    assert_eq!(config["rope_theta"], 5e5);
    assert_eq!(config["rope_scaling"], scaling);
}

#[test]
fn an_adapter_of_the_users_beside_the_weights_is_the_users() {
    let model = copy("networks/llama");
    let whole = logits(model.path());
    let theirs = model.path().join("adapter");
    fs::create_dir(&theirs).unwrap();
    fs::write(
        theirs.join("adapter_config.json"),
        r#"{"peft_type": "IA3"}"#,
    )
    .unwrap();
    fs::write(theirs.join("adapter_model.safetensors"), "theirs").unwrap();
    assert_eq!(logits(model.path()), whole);
    let parameters = Checkpoint::open(model.path()).unwrap().parameters();
    assert_eq!(
        parameters,
        Checkpoint::open(copy("networks/llama").path())
            .unwrap()
            .parameters()
    );
    success(&run(model.path(), &["svd"]).1);
    let (place, result) = run(
        model.path(),
        &[
            "lorc",
            "--quantizer",
            "nearest",
            "--metric",
            "plain",
            "--rank",
            "4",
        ],
    );
    success(&result);
    // The correction is ours.
    let output = place.path().join("out");
    let settings = fs::read_to_string(output.join("adapter/adapter_config.json")).unwrap();
    assert!(settings.contains("LORA"), "{settings}");
}

#[test]
fn a_text_too_short_to_show_all_directions_of_an_input_is_told_of() {
    let place = folder();
    let (model, sample) = (shipped(place.path()), sample(place.path()));
    let told = |samples| {
        let output = place.path().join("out");
        let run = [
            "run",
            "svd",
            text(&model),
            "-o",
            text(&output),
            "--force",
            "--metric",
            "activation",
            "--no-evaluate",
            "--calibrate",
            text(&sample),
            "--calibrate-ctx",
            "32",
            "--samples",
            samples,
        ];
        let result = compress(&run);
        success(&result);
        String::from_utf8_lossy(&result.stderr)
            .contains("calibration tokens for weights with up to")
    };
    // The widest weight of the shipped model has some hundred inputs.
    assert!(told("2") && !told("32"));
}

#[test]
fn a_block_that_changes_nothing_is_free_to_cut() {
    let place = folder();
    let (model, output) = (shipped(place.path()), place.path().join("out"));
    // As LLaMA-Pro inserts blocks.
    edit_tensors(&model, |all| {
        for name in ["self_attn.o_proj", "mlp.down_proj"] {
            let tensor = all
                .get_mut(&format!("model.layers.1.{name}.weight"))
                .unwrap();
            tensor.1.fill(0.0);
        }
    });
    let sample = sample(place.path());
    let settings = [
        "--force",
        "--one-shot",
        "--calibrate",
        text(&sample),
        "--samples",
        "8",
        "--calibrate-ctx",
        "64",
        "--windows",
        "4",
        "--ctx",
        "64",
        "--json",
    ];
    for method in ["fwsvd", "welore"] {
        let arguments = ["run", method, text(&model), "-o", text(&output)];
        let report = success(&compress(&[&arguments[..], &settings].concat()));
        let report: Value = serde_json::from_str(&report).unwrap();
        let perplexity = report["after"]["perplexity"].as_f64();
        assert!(perplexity.unwrap().is_finite(), "{report}");
    }
}
