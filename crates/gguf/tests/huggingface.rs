//! The view of a file as a checkpoint: names, order of rows, configuration.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use compress_gguf::huggingface::{config, permuted_heads, tensor_name, unpermute_rows, values};
use compress_gguf::{Error, Gguf};
use proptest::prelude::*;
use serde_json::json;
use support::{Header, fixture};

/// The metadata that a configuration needs.
fn model(architecture: &str) -> Header {
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    Header::default()
        .text("general.architecture", architecture)
        .whole(&key("block_count"), 1)
        .whole(&key("context_length"), 64)
        .whole(&key("embedding_length"), 8)
        .whole(&key("feed_forward_length"), 16)
        .whole(&key("attention.head_count"), 4)
        .number(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .texts("tokenizer.ggml.tokens", &["a", "b", "c"])
}

fn unsupported(header: &Header) -> String {
    match config(&header.parse().unwrap()) {
        Err(Error::Unsupported { feature }) => feature,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_those_of_transformers() {
    let expected = [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        (
            "blk.0.attn_norm.weight",
            "model.layers.0.input_layernorm.weight",
        ),
        (
            "blk.0.ffn_norm.weight",
            "model.layers.0.post_attention_layernorm.weight",
        ),
        (
            "blk.11.attn_q.weight",
            "model.layers.11.self_attn.q_proj.weight",
        ),
        (
            "blk.11.attn_k.bias",
            "model.layers.11.self_attn.k_proj.bias",
        ),
        (
            "blk.11.attn_v.weight",
            "model.layers.11.self_attn.v_proj.weight",
        ),
        (
            "blk.11.attn_output.weight",
            "model.layers.11.self_attn.o_proj.weight",
        ),
        (
            "blk.11.attn_q_norm.weight",
            "model.layers.11.self_attn.q_norm.weight",
        ),
        (
            "blk.11.attn_k_norm.weight",
            "model.layers.11.self_attn.k_norm.weight",
        ),
        (
            "blk.2.ffn_gate.weight",
            "model.layers.2.mlp.gate_proj.weight",
        ),
        ("blk.2.ffn_up.weight", "model.layers.2.mlp.up_proj.weight"),
        ("blk.2.ffn_down.bias", "model.layers.2.mlp.down_proj.bias"),
    ];
    for (here, there) in expected {
        assert_eq!(tensor_name(here).as_deref(), Some(there));
    }
    for unknown in [
        "rope_freqs.weight",
        "blk.07.attn_q.weight",
        "blk.+7.attn_q.weight",
        "blk.0.attn_norm.bias",
    ] {
        assert_eq!(tensor_name(unknown), None, "{unknown}");
    }
    for unknown in [
        "",
        "blk",
        "blk.0",
        "blk.0.attn_q",
        "blk.0.attn_q.scale",
        "blk.0.ffn_gate_exps.weight",
    ] {
        assert_eq!(tensor_name(unknown), None, "{unknown}");
    }
}

#[test]
fn a_whole_llama_has_the_configuration_it_was_made_with() {
    let gguf = Gguf::parse(&fixture("llama.gguf")).unwrap();
    let expected = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 271,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": null,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "torch_dtype": "float16",
        "attention_bias": false,
        "mlp_bias": false,
    });
    assert_eq!(config(&gguf).unwrap(), expected);
}

#[test]
fn what_a_file_does_not_say_has_llama_cpp_s_default() {
    let config = config(&model("llama").parse().unwrap()).unwrap();
    assert_eq!(
        (&config["num_key_value_heads"], &config["head_dim"]),
        (&json!(4), &json!(2))
    );
    assert_eq!(
        (&config["rope_theta"], &config["vocab_size"]),
        (&json!(10000.0), &json!(3))
    );
    assert_eq!(
        (&config["bos_token_id"], &config["rms_norm_eps"]),
        (&json!(null), &json!(1e-6))
    );
}

#[test]
fn the_tensors_tell_of_biases_and_of_an_untied_output() {
    let tensors = |architecture| {
        model(architecture)
            .tensor("blk.0.attn_q.bias", &[8], 0, 0)
            .tensor("output.weight", &[8, 5], 0, 32)
            .tensor("token_embd.weight", &[8, 5], 0, 192)
            .data(352)
            .parse()
    };
    let llama = config(&tensors("llama").unwrap()).unwrap();
    assert_eq!(
        (&llama["attention_bias"], &llama["mlp_bias"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&llama["tie_word_embeddings"], &llama["vocab_size"]),
        (&json!(false), &json!(5))
    );
    let qwen2 = config(&tensors("qwen2").unwrap()).unwrap();
    assert_eq!(
        (&qwen2["model_type"], qwen2.get("attention_bias")),
        (&json!("qwen2"), None)
    );
}

#[test]
fn qwen3_has_heads_of_the_width_it_says() {
    let gguf = model("qwen3")
        .whole("qwen3.attention.key_length", 128)
        .parse()
        .unwrap();
    let config = config(&gguf).unwrap();
    assert_eq!(
        (&config["head_dim"], &config["architectures"]),
        (&json!(128), &json!(["Qwen3ForCausalLM"]))
    );
    assert_eq!(permuted_heads(&gguf, "blk.0.attn_q.weight").unwrap(), None);
}

#[test]
fn what_a_configuration_would_not_say_is_refused_by_name() {
    let llama = || model("llama");
    assert!(
        unsupported(&llama().whole("llama.rope.dimension_count", 1))
            .contains("dimension_count of 1")
    );
    assert!(
        unsupported(&llama().whole("llama.attention.value_length", 4))
            .contains("value_length of 4")
    );
    assert!(unsupported(&llama().whole("llama.expert_count", 8)).contains("8 experts"));
    let neutral = llama().text("unrelated", "").whole("llama.expert_count", 0);
    assert!(config(&neutral.parse().unwrap()).is_ok());
}

#[test]
fn a_missing_or_mistyped_key_is_named() {
    let gguf = Header::default()
        .text("general.architecture", "qwen2")
        .parse()
        .unwrap();
    match config(&gguf) {
        Err(Error::MissingKey { key }) => assert_eq!(key, "qwen2.attention.head_count"),
        other => panic!("{other:?}"),
    }
    match config(&Header::default().parse().unwrap()) {
        Err(Error::MissingKey { key }) => assert_eq!(key, "general.architecture"),
        other => panic!("{other:?}"),
    }
    match config(
        &model("llama")
            .text("llama.rope.freq_base", "1e4")
            .parse()
            .unwrap(),
    ) {
        Err(Error::WrongType { key, .. }) => assert_eq!(key, "llama.rope.freq_base"),
        other => panic!("{other:?}"),
    }
    match config(&model("gemma3").parse().unwrap()) {
        Err(error @ Error::Architecture { .. }) => {
            assert_eq!(
                error.to_string(),
                r#"architecture "gemma3" is not supported (llama, qwen2, qwen3 are)"#
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_llama_s_queries_and_keys_have_their_rows_put_back() {
    let file = fixture("llama.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    for (name, heads) in [
        ("blk.1.attn_q.weight", Some(4)),
        ("blk.1.attn_k.weight", Some(2)),
        ("blk.1.attn_v.weight", None),
    ] {
        assert_eq!(permuted_heads(&gguf, name).unwrap(), heads);
        let tensor = &gguf.tensors()[name];
        let mut expected = vec![0.0; tensor.shape.iter().product()];
        compress_gguf::dequantise(tensor.kind, &file[tensor.range.clone()], &mut expected).unwrap();
        if let Some(heads) = heads {
            unpermute_rows(heads, &mut expected, 64).unwrap();
        }
        assert_eq!(values(&gguf, &file, name).unwrap(), expected);
    }
    assert!(matches!(
        values(&gguf, &file, "absent"),
        Err(Error::MissingTensor { .. })
    ));
    assert!(matches!(
        values(&gguf, &file[..100], "output_norm.weight"),
        Err(Error::OutOfRange { .. })
    ));
}

#[test]
fn rows_that_are_not_pairs_of_heads_are_refused() {
    for (heads, length, cols) in [
        (0, 8, 1),
        (1, 8, 0),
        (2, 6, 1),
        (2, 10, 2),
        (usize::MAX, 8, 1),
        (3, 8, 2),
    ] {
        let refused = unpermute_rows(heads, &mut vec![0.0; length], cols);
        assert!(
            matches!(refused, Err(Error::Heads { .. })),
            "{heads} heads, {length} values, {cols} columns"
        );
    }
    assert!(unpermute_rows(2, &mut [], 4).is_ok());
}

proptest! {
    #[test]
    fn putting_rows_back_undoes_llama_cpp_s_reordering(heads in 1_usize..5, pairs in 1_usize..5, cols in 1_usize..4) {
        let original: Vec<f32> = (0..heads * 2 * pairs * cols).map(|value| value as f32).collect();
        let mut rows = Vec::new();
        for head in original.chunks(2 * pairs * cols) {
            let (first, second) = head.split_at(pairs * cols);
            for (a, b) in first.chunks(cols).zip(second.chunks(cols)) {
                rows.extend([a, b].concat());
            }
        }
        unpermute_rows(heads, &mut rows, cols).unwrap();
        prop_assert_eq!(rows, original);
    }
}
