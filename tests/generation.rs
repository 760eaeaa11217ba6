//! Generation, conversations and thinned caches of real models are those of transformers and kvpress.
//!
//! Needs what `real_models.rs` needs; `tests/fixtures/generation` has what the independent programs gave, and their scripts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{folder, json, near, shared, smollm2, stories};
use compress_checkpoint::{Checkpoint, Message};
use compress_models::{Cache, Decoder, Device, generate};
use compress_think::{LayerPolicy, Policy};
use serde_json::Value;

/// A file of what the independent programs gave.
fn generation(name: &str) -> Value {
    let path = common::fixture("generation").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).unwrap()
}

/// Greedy continuations of 200 tokens, and of the prompts the tokens that a tokenizer makes of them.
fn continues_as_in_transformers(name: &str, path: &Path) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let decoder = Decoder::load(&checkpoint, &Device::flex()).unwrap();
    for case in generation("generation.json").as_array().unwrap() {
        if case["model"] != name {
            continue;
        }
        let prompt = ids(&case["ids"]);
        if let Some(text) = case["prompt"].as_str() {
            let encoding = tokenizer.encode_fast(text, true).unwrap();
            assert_eq!(encoding.get_ids(), prompt, "{case}");
        }
        let all = generate(&decoder, &prompt, 200).unwrap();
        assert_eq!(
            all[prompt.len()..],
            ids(&case["new"]),
            "{name}, {}",
            case["prompt"]
        );
    }
}

#[test]
#[ignore = "needs ../shared"]
fn stories_continue_as_in_transformers() {
    for name in ["stories260k", "stories15m"] {
        continues_as_in_transformers(name, &shared(&format!("models/{name}")));
    }
    let told = json(&[
        "generate",
        shared("models/stories260k").to_str().unwrap(),
        "-p",
        "",
        "-n",
        "31",
    ]);
    let begins = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.";
    assert!(told["text"].as_str().unwrap().starts_with(begins), "{told}");
}

#[test]
#[ignore = "needs ../shared and SmolLM2"]
fn smollm2_continues_and_converses_as_in_transformers() {
    let (path, _) = smollm2();
    continues_as_in_transformers("SmolLM2-135M-Instruct", &path);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let all = generation("chat.json");
    for case in all["cases"].as_array().unwrap() {
        if case["template"] != "SmolLM2" {
            continue;
        }
        let mut conversations = all["conversations"].as_array().unwrap().iter();
        let conversation = conversations.find(|it| it["name"] == case["conversation"]);
        let messages: Vec<Message> =
            serde_json::from_value(conversation.unwrap()["messages"].clone()).unwrap();
        let reply = case["add_generation_prompt"] == true;
        let text = checkpoint
            .chat(&messages, reply, serde_json::Map::new())
            .unwrap();
        assert_eq!(text, case["text"]);
        let encoding = tokenizer.encode_fast(text, false).unwrap();
        assert_eq!(encoding.get_ids(), ids(&case["ids"]), "{case}");
    }
}

/// The channels of each key head that are dropped behind a prompt, against those that kvpress sets to zero.
fn drops_what_kvpress_drops(name: &str, path: &Path) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let config = checkpoint.config();
    let mut decoder = Decoder::load(&checkpoint, &Device::flex()).unwrap();
    for case in generation("kvpress_think.json").as_array().unwrap() {
        if case["model"] != name {
            continue;
        }
        for at in case["ratios"].as_array().unwrap() {
            // kvpress has no recent tokens.
            let policy = LayerPolicy {
                recent: 0,
                ..LayerPolicy::think(at["ratio"].as_f64().unwrap())
            };
            decoder.policy = Some(Policy::new(policy, config.head_shape()).unwrap().into());
            let mut cache = Cache::of(&decoder);
            decoder
                .hidden_after(&mut cache, &ids(&case["ids"]))
                .unwrap();
            for (layer, heads) in at["kept"].as_array().unwrap().iter().enumerate() {
                let found = cache.heads(layer).unwrap().iter();
                for (head, kept) in found.zip(heads.as_array().unwrap()) {
                    let [keys, _] = head.whole();
                    let stays = |channel: &u32| {
                        let mut column = keys
                            .iter()
                            .skip(*channel as usize)
                            .step_by(config.head_size);
                        column.any(|x| *x != 0.0)
                    };
                    let channels = (0..config.head_size as u32).filter(stays);
                    assert_eq!(
                        channels.collect::<Vec<_>>(),
                        ids(kept),
                        "{name}, layer {layer}"
                    );
                }
            }
        }
    }
}

#[test]
#[ignore = "needs ../shared and SmolLM2"]
fn the_channels_that_go_are_those_of_kvpress() {
    drops_what_kvpress_drops("stories15m", &shared("models/stories15m"));
    drops_what_kvpress_drops("SmolLM2-135M-Instruct", &smollm2().0);
}

#[test]
#[ignore = "needs ../shared"]
fn a_thinner_key_cache_costs_what_an_independent_program_measured() {
    let (model, text) = stories();
    let place = folder();
    for (lambda, recent, expected) in [
        (0.0, 32, 3.8354),
        (0.4, 32, 3.8190),
        (0.6, 32, 3.8281),
        (0.8, 32, 3.8751),
        (0.4, 0, 3.8603),
        (0.8, 0, 4.1375),
    ] {
        let policy = LayerPolicy {
            recent,
            ..LayerPolicy::think(lambda)
        };
        let shape = Checkpoint::open(&model).unwrap().config().head_shape();
        let policy = Policy::new(policy, shape).unwrap();
        let file = place.path().join("policy.json");
        fs::write(&file, serde_json::to_string(&policy).unwrap()).unwrap();
        let [model, text, file] = [&model, &text, &file].map(|path| path.to_str().unwrap());
        let found = json(&[
            "evaluate",
            model,
            "--text",
            text,
            "--ctx",
            "256",
            "--windows",
            "64",
            "--split",
            "128",
            "--cache",
            file,
        ]);
        near(&found["perplexity"], expected, expected * 5e-4);
    }
}
