//! Settings of `config.json`, as transformers takes them.

use std::path::Path;

use compress_checkpoint::{Config, Result};
use serde_json::{Value, json};

fn parsed(change: impl Fn(&mut Value)) -> Result<Config> {
    let mut json = json!({
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "vocab_size": 100,
    });
    change(&mut json);
    Config::parse(json, Path::new("config.json"))
}

#[test]
fn what_is_missing_has_the_value_that_transformers_takes() {
    for (family, context, key_value_heads) in [
        ("llama", 2048, 64),
        ("mistral", 131_072, 8),
        ("qwen2", 32_768, 32),
    ] {
        let config = parsed(|json| {
            json["model_type"] = family.into();
            json["num_attention_heads"] = 64.into();
            json["num_key_value_heads"] = Value::Null;
            json["head_dim"] = 2.into();
        });
        let config = config.unwrap();
        assert_eq!(config.key_value_heads, key_value_heads);
        assert_eq!(config.context, context);
        assert!((config.norm_epsilon - 1e-6).abs() < 1e-12);
        assert!((config.rope().unwrap().theta - 1e4).abs() < 1e-9);
    }
}

#[test]
fn a_setting_that_changes_nothing_is_no_obstacle() {
    for (field, value) in [
        ("hidden_act", json!("swish")),
        ("partial_rotary_factor", json!(1)),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("rope_interleaved", json!(false)),
        ("num_experts", json!(0)),
        ("use_logn_attn", json!(false)),
        ("use_cache", json!(true)),
        ("unsloth_fixed", json!(true)),
        ("_attn_implementation_autoset", json!(true)),
        ("trained_by", json!("somebody")),
        ("extra", json!({})),
        ("pruned_heads", json!({})),
        (
            "rope_parameters",
            json!({ "rope_theta": 1e6, "partial_rotary_factor": 1.0 }),
        ),
    ] {
        assert!(
            parsed(|json| json[field] = value.clone()).is_ok(),
            "{field}"
        );
    }
}

#[test]
fn the_older_name_of_a_scaling_counts_where_there_are_both() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    let plain = json!({ "rope_type": "default", "rope_theta": 5e5 });
    for (older, newer, scaled) in [
        (Some(&llama3), Some(&plain), true),
        (None, Some(&llama3), true),
        (Some(&plain), Some(&llama3), false),
    ] {
        let config = parsed(|json| {
            json["rope_scaling"] = older.cloned().unwrap_or_default();
            json["rope_parameters"] = newer.cloned().unwrap_or_default();
        });
        assert_eq!(config.unwrap().rope().unwrap().scaling.is_some(), scaled);
    }
}

#[test]
fn a_window_that_no_layer_has_is_none() {
    let windowed = |whole: Value| {
        parsed(|json| {
            json["model_type"] = "qwen2".into();
            json["use_sliding_window"] = true.into();
            json["sliding_window"] = 16.into();
            json["max_window_layers"] = whole.clone();
        })
    };
    // 28 layers where nothing is said, more than there are.
    for whole in [json!(2), json!(21), Value::Null] {
        assert_eq!(windowed(whole).unwrap().sliding_window, None);
    }
    assert!(windowed(json!(1)).is_err());
    assert_eq!(windowed(json!(0)).unwrap().sliding_window, Some(16));
}

#[test]
fn biases_are_where_the_class_has_them() {
    for (family, query, output) in [
        ("llama", true, true),
        ("mistral", false, false),
        ("qwen2", true, false),
        ("qwen3", true, true),
    ] {
        let config = parsed(|json| {
            json["model_type"] = family.into();
            json["attention_bias"] = true.into();
            json["mlp_bias"] = true.into();
        });
        let config = config.unwrap();
        assert_eq!((config.query_bias, config.output_bias), (query, output));
        assert_eq!(config.mlp_bias, family == "llama");
    }
}

#[test]
fn an_id_that_no_embedding_has_begins_no_text() {
    assert_eq!(
        parsed(|json| json["bos_token_id"] = 100.into())
            .unwrap()
            .bos,
        None
    );
    assert_eq!(
        parsed(|json| json["bos_token_id"] = 99.into()).unwrap().bos,
        Some(99)
    );
}
