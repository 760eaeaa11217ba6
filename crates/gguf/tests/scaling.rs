//! Scaled rotary frequencies: what the config says of them, and what is refused.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use compress_gguf::huggingface::config;
use compress_gguf::{Error, Gguf};
use serde_json::{Value, json};
use support::{Header, fixture};

/// A model with heads of a given width.
fn model(architecture: &str, width: u32, theta: f32) -> Header {
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    Header::default()
        .text("general.architecture", architecture)
        .whole(&key("block_count"), 1)
        .whole(&key("context_length"), 131_072)
        .whole(&key("embedding_length"), 4 * width)
        .whole(&key("feed_forward_length"), 16)
        .whole(&key("attention.head_count"), 4)
        .number(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .number(&key("rope.freq_base"), theta)
        .texts("tokenizer.ggml.tokens", &["a", "b", "c"])
}

/// The same with a tensor of divisors.
fn divided(architecture: &str, theta: f32, divisors: &[f32]) -> Header {
    let pairs = divisors.len() as u32;
    model(architecture, 2 * pairs, theta)
        .tensor("rope_freqs.weight", &[u64::from(pairs)], 0, 0)
        .contents(divisors)
}

/// A model with settings below `llama.rope.scaling`.
fn scaled(kind: &str, numbers: &[(&str, f32)]) -> Header {
    let header = model("llama", 8, 10_000.0).text("llama.rope.scaling.type", kind);
    numbers.iter().fold(header, |header, (key, number)| {
        header.number(&format!("llama.rope.scaling.{key}"), *number)
    })
}

fn scaling(header: &Header) -> Value {
    config(&header.parse().unwrap()).unwrap()["rope_scaling"].clone()
}

fn refusal(header: &Header) -> String {
    match config(&header.parse().unwrap()) {
        Err(Error::Unsupported { feature }) => feature,
        other => panic!("{other:?}"),
    }
}

/// The rows of the fixture: settings, and divisors as a conversion computes them.
fn rows() -> Vec<(Value, Vec<f32>)> {
    let rows: Vec<Value> = serde_json::from_slice(&fixture("rope_freqs.json")).unwrap();
    rows.into_iter()
        .map(|row| {
            let divisors = serde_json::from_value(row["divisors"].clone()).unwrap();
            (row, divisors)
        })
        .collect()
}

#[test]
fn llama_3_s_settings_are_recovered_from_the_divisors() {
    for (row, divisors) in rows() {
        let theta = row["theta"].as_f64().unwrap() as f32;
        let expected = json!({
            "rope_type": "llama3",
            "factor": row["factor"],
            "low_freq_factor": row["low"],
            "high_freq_factor": row["high"],
            "original_max_position_embeddings": row["context"],
        });
        assert_eq!(scaling(&divided("llama", theta, &divisors)), expected);
    }
}

#[test]
fn divisors_of_one_scale_nothing() {
    assert_eq!(scaling(&divided("llama", 1e4, &[1.0; 8])), Value::Null);
}

#[test]
fn divisors_that_no_settings_give_are_refused() {
    let (_, divisors) = rows().swap_remove(0);
    let with = |at: usize, number: f32| {
        let mut changed = divisors.clone();
        changed[at] = number;
        divided("llama", 5e5, &changed)
    };
    // An eighth less at one place, a wrong base, and numbers that no one writes.
    for at in [0, 30, 32, 63] {
        let refused = refusal(&with(at, divisors[at] * 0.875));
        assert!(refused.contains("rope_freqs.weight"), "{refused}");
    }
    assert!(refusal(&divided("llama", 4e5, &divisors)).contains("base 400000"));
    for absurd in [0.0, -8.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
        refusal(&with(63, absurd));
        refusal(&with(31, absurd));
        refusal(&divided("llama", 5e5, &[absurd; 64]));
    }
    for theta in [0.0, -1.0, 1.0, f32::MAX] {
        refusal(&divided("llama", theta, &divisors));
    }
    // Inverse frequencies themselves, as the tensor of this name in Llama 1 had them.
    refusal(&divided("llama", 1e4, &[1.0, 0.1, 0.01, 0.001]));
}

#[test]
fn divisors_of_another_shape_or_architecture_are_refused() {
    let two = model("llama", 8, 1e4)
        .tensor("rope_freqs.weight", &[2, 2], 0, 0)
        .contents(&[1.0; 4]);
    assert!(refusal(&two).contains("shape [2, 2]"));
    let huge = model("llama", 8, 1e4)
        .tensor("rope_freqs.weight", &[8192], 0, 0)
        .contents(&vec![1.0; 8192]);
    assert!(refusal(&huge).contains("shape [8192]"));
    let none = model("llama", 0, 1e4)
        .tensor("rope_freqs.weight", &[1], 0, 0)
        .contents(&[2.0]);
    assert!(refusal(&none).contains("heads of 0"));
    assert!(refusal(&divided("qwen2", 1e4, &[1.0, 8.0])).contains("qwen2"));
}

#[test]
fn linear_scaling_is_said_by_type_or_by_factor_alone() {
    let linear = json!({"rope_type": "linear", "factor": 4.0});
    assert_eq!(scaling(&scaled("linear", &[("factor", 4.0)])), linear);
    let older = model("llama", 8, 1e4).number("llama.rope.scale_linear", 4.0);
    assert_eq!(scaling(&older), linear);
}

#[test]
fn no_scaling_is_null() {
    assert_eq!(scaling(&scaled("none", &[("factor", 4.0)])), Value::Null);
    for kind in ["linear", "yarn"] {
        assert_eq!(scaling(&scaled(kind, &[("factor", 1.0)])), Value::Null);
    }
}

#[test]
fn yarn_has_the_settings_of_the_file() {
    let short = scaled("yarn", &[("factor", 4.0)]);
    let expected =
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 131_072});
    assert_eq!(scaling(&short), expected, "the model's own context");
    let all = [
        ("factor", 4.0),
        ("yarn_beta_fast", 16.0),
        ("yarn_beta_slow", 2.0),
        ("yarn_attn_factor", 1.1),
        ("yarn_ext_factor", 1.0),
        ("yarn_log_multiplier", 0.0),
        ("attn_factor", 1.0),
    ];
    let all = scaled("yarn", &all).whole("llama.rope.scaling.original_context_length", 32_768);
    let expected = json!({
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32_768,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "attention_factor": 1.1,
    });
    assert_eq!(scaling(&all), expected);
    let warnings = all.parse().unwrap().warnings().unwrap();
    assert!(
        matches!(&warnings[..], [one] if one.contains("yarn_attn_factor 1.1")),
        "{warnings:?}"
    );
    assert!(short.parse().unwrap().warnings().unwrap().is_empty());
}

#[test]
fn scaling_that_a_config_would_not_say_is_refused_by_name() {
    assert!(refusal(&scaled("longrope", &[("factor", 4.0)])).contains("longrope"));
    assert!(refusal(&scaled("longrope", &[("factor", 1.0)])).contains("longrope"));
    assert!(refusal(&scaled("yarn", &[])).contains("yarn, factor not given"));
    for factor in [0.0, -2.0, 0.5] {
        refusal(&scaled("linear", &[("factor", factor)]));
        refusal(&scaled("yarn", &[("factor", factor)]));
    }
    let settings = [
        "yarn_ext_factor",
        "yarn_log_multiplier",
        "attn_factor",
        "alpha",
    ];
    for key in settings {
        let refused = refusal(&scaled("yarn", &[("factor", 4.0), (key, 0.5)]));
        assert!(refused.contains(key), "{refused}");
    }
    let refused = refusal(&scaled("yarn", &[("factor", 4.0), ("yarn_beta_fast", 0.0)]));
    assert!(refused.contains("yarn_beta_fast of 0"), "{refused}");
    let longrope = model("llama", 8, 1e4)
        .tensor("rope_factors_long.weight", &[4], 0, 0)
        .data(32);
    assert!(refusal(&longrope).contains("rope_factors_long.weight"));
    let (_, divisors) = rows().swap_remove(0);
    let both = divided("llama", 5e5, &divisors)
        .text("llama.rope.scaling.type", "linear")
        .number("llama.rope.scaling.factor", 2.0);
    assert!(refusal(&both).contains("two scalings"));
}

#[test]
fn a_factor_that_is_no_number_is_named() {
    let header = model("llama", 8, 1e4).text("llama.rope.scaling.factor", "4");
    let parsed: Gguf = header.parse().unwrap();
    assert!(
        matches!(config(&parsed), Err(Error::WrongType { key, .. }) if key == "llama.rope.scaling.factor")
    );
}
