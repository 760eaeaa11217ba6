//! Settings that cannot be computed with.

use std::fs;

use serde_json::{Value, json};

use crate::{
    changed,
    common::{compress, copy, folder, success, text},
    refused, refused_config,
};

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
}

#[test]
fn settings_that_change_the_function_are_not_skipped() {
    for (field, value) in [
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
        ),
        ("final_logit_softcapping", json!(30.0)),
        ("residual_multiplier", json!(0.22)),
        ("num_local_experts", json!(8)),
        ("is_causal", json!(false)),
        ("hidden_activation", json!("gelu")),
    ] {
        refused_config(|json| json[field] = value.clone(), &[field, "is "]);
    }
}

#[test]
fn a_class_that_is_none_of_the_family() {
    refused_config(
        |json| json["architectures"] = json!(["BertForMaskedLM"]),
        &["architectures", "BertForMaskedLM"],
    );
}

/// Settings of the rotary embedding, which only running the model needs.
#[test]
fn a_rotary_embedding_of_an_unknown_kind_is_refused_before_the_work() {
    let yarn = json!({ "rope_type": "yarn" });
    let plain = json!({ "rope_type": "default", "rope_theta": 1e4 });
    for (fields, word) in [
        (
            json!({ "partial_rotary_factor": 0.5 }),
            "partial_rotary_factor",
        ),
        (json!({ "rope_interleaved": true }), "rope_interleaved"),
        (json!({ "rope_scaling": { "factor": 2.0 } }), "rope_scaling"),
        (
            json!({ "rope_scaling": { "rope_type": "longrope", "short_factor": [1.0] } }),
            "longrope",
        ),
        (
            json!({ "rope_scaling": null, "rope_parameters": { "rope_theta": 5e5 } }),
            "keep the one",
        ),
        (
            json!({ "rope_scaling": { "full_attention": { "rope_theta": 5e5 } } }),
            "type of layers",
        ),
        // Of these nothing is known.
        (json!({ "use_gain": true }), "use_gain"),
        (json!({ "attention_gain": 0.5 }), "attention_gain"),
        (json!({ "skipped_layers": [1] }), "skipped_layers"),
        (
            json!({ "rope_scaling": { "rope_type": "spiral" } }),
            "spiral",
        ),
        (
            json!({ "rope_scaling": { "rope_type": "yarn", "factor": 2.0, "twist": 3 } }),
            "twist",
        ),
        // In both versions of transformers the older name counts where there are both.
        (
            json!({ "rope_scaling": yarn, "rope_parameters": plain }),
            "factor",
        ),
        (
            json!({ "rope_scaling": null, "rope_parameters": { "partial_rotary_factor": 0.25 } }),
            "partial_rotary_factor",
        ),
    ] {
        let model = changed(|json| {
            let json = json.as_object_mut().unwrap();
            json.extend(fields.as_object().unwrap().clone());
        });
        let place = folder();
        let output = place.path().join("out");
        let run = ["run", "svd", text(model.path()), "-o", text(&output), "-q"];
        let result = compress(&run);
        let stderr = String::from_utf8_lossy(&result.stderr);
        assert_eq!(result.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        // Without running it, the weights can be looked at and cut.
        success(&compress(&["inspect", text(model.path())]));
        success(&compress(&[&run[..], &["--no-evaluate"]].concat()));
    }
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
