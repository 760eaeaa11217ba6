//! Cache policies: what a thinned cache gives, token by token and at once, and the commands that make and follow one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path, sync::Arc};

use common::{compress, edit_config, fixture, folder, json, success};
use compress_checkpoint::Checkpoint;
use compress_models::{Cache, Decoder, Device, Generation, Sampler, Tensor};
use compress_think::{Format, LayerPolicy, Policy, Side};
use serde_json::Value;

/// Grouped queries, biases, norms of heads; and as many heads of keys as of queries.
const NETWORKS: [&str; 4] = ["llama", "llama_biased", "qwen2", "qwen3"];

/// Tokens of the text, and of its prompt.
const LENGTH: usize = 90;
const PROMPT: usize = 40;

fn decoder(network: &str, policy: LayerPolicy) -> Decoder {
    let checkpoint = Checkpoint::open(&fixture(&format!("networks/{network}"))).unwrap();
    let shape = checkpoint.config().head_shape();
    let mut decoder = Decoder::load(&checkpoint, &Device::flex()).unwrap();
    decoder.policy = Some(Arc::new(Policy::new(policy, shape).unwrap()));
    decoder
}

fn text(decoder: &Decoder, seed: u32) -> Vec<u32> {
    let vocabulary = decoder.vocabulary() as u32;
    let token = |i: u32| (i * 37 + i * i * seed + 5) % vocabulary;
    (0..LENGTH as u32).map(token).collect()
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn policies() -> Vec<LayerPolicy> {
    let side = |lambda, format| Side {
        lambda,
        compensate: lambda > 0.4,
        format,
    };
    let pairs = [
        (side(0.5, Format::F32), Side::default()),
        (side(0.3, Format::F32), side(0.5, Format::F32)),
        (side(0.0, Format::F16), side(0.0, Format::F16)),
        (
            side(0.0, Format::ByChannel { bits: 4 }),
            side(0.0, Format::ByToken { bits: 4 }),
        ),
        (
            side(0.0, Format::Rotated { bits: 8 }),
            side(0.0, Format::Rotated { bits: 3 }),
        ),
        (
            side(0.0, Format::Mixed { bits: 3.0 }),
            side(0.0, Format::Rotated { bits: 2 }),
        ),
        (
            side(0.5, Format::ByChannel { bits: 8 }),
            side(0.25, Format::ByToken { bits: 2 }),
        ),
    ];
    let mut all = Vec::new();
    for (keys, values) in pairs {
        for (tokens, fold) in [(1.0, false), (0.5, true)] {
            all.push(LayerPolicy {
                keys,
                values,
                tokens,
                window: 16,
                recent: 8,
                sinks: if fold { 2 } else { 0 },
                fold,
            });
        }
    }
    all
}

/// One token's projections differ from many's, and from a batch's, in the last bits. Where numbers are rounded, one that
/// lies between two steps may then go to either; `think`'s own laws have the same numbers go in, and the same bits come out.
fn assert_near((network, policy): (&str, LayerPolicy), found: &[f32], expected: &[f32]) {
    let exact = [policy.keys, policy.values].map(|side| side.format == Format::F32);
    let tolerance = if exact == [true; 2] { 1e-5 } else { 1e-2 };
    for (a, b) in found.iter().zip(expected) {
        let apart = (a - b).abs() / b.abs().max(1.0);
        assert!(apart < tolerance, "{network}, {policy:?}: {a}, not {b}");
    }
}

#[test]
fn one_token_at_a_time_gives_what_many_at_once_do() {
    for network in NETWORKS {
        for policy in policies() {
            let decoder = decoder(network, policy);
            let text = text(&decoder, 0);
            let (prompt, rest) = text.split_at(PROMPT);
            let mut cache = Cache::of(&decoder);
            decoder.hidden_after(&mut cache, prompt).unwrap();
            let mut single = cache.clone();
            let many = numbers(decoder.hidden_after(&mut cache, rest).unwrap());
            let one = |token: &u32| numbers(decoder.hidden_after(&mut single, &[*token]).unwrap());
            let one: Vec<f32> = rest.iter().flat_map(one).collect();
            assert_near((network, policy), &one, &many);
            assert_eq!((cache.len(), single.len()), (LENGTH, LENGTH));
        }
    }
}

#[test]
fn a_policy_that_keeps_all_gives_the_same_bits_as_none() {
    for network in NETWORKS {
        let with = decoder(network, LayerPolicy::think(0.0));
        let text = text(&with, 0);
        let run = |mut cache: Cache| {
            let prompt = with.hidden_after(&mut cache, &text[..PROMPT]).unwrap();
            let mut all = numbers(prompt);
            for token in &text[PROMPT..] {
                let hidden = with.hidden_after(&mut cache, &[*token]).unwrap();
                let [_, _, width] = hidden.dims();
                all.extend(numbers(with.logits(hidden.reshape([1, width]))));
            }
            all
        };
        assert_eq!(run(Cache::of(&with)), run(Cache::new()));
    }
}

#[test]
fn a_batch_of_two_gives_what_two_texts_give() {
    for network in NETWORKS {
        for policy in policies().into_iter().chain([LayerPolicy::default()]) {
            let decoder = decoder(network, policy);
            let texts = [text(&decoder, 0), text(&decoder, 3)];
            let run = |texts: &[&[u32]]| {
                let part = |range: std::ops::Range<usize>| -> Vec<&[u32]> {
                    texts.iter().map(|text| &text[range.clone()]).collect()
                };
                let mut cache = Cache::of(&decoder);
                let mut last = Vec::new();
                for range in [0..PROMPT, PROMPT..PROMPT + 1, PROMPT + 1..LENGTH] {
                    last = numbers(decoder.hidden_after_all(&mut cache, &part(range)).unwrap());
                }
                last
            };
            let both = run(&[&texts[0], &texts[1]]);
            let apart = [run(&[&texts[0]]), run(&[&texts[1]])].concat();
            assert_near((network, policy), &both, &apart);
        }
    }
}

#[test]
fn a_network_that_cannot_follow_a_policy_says_so() {
    let window = decoder("mistral_window", LayerPolicy::think(0.5));
    let error = window
        .hidden_after(&mut Cache::of(&window), &[1, 2])
        .unwrap_err();
    assert!(error.to_string().contains("sliding-window"), "{error}");
    // Where nothing is dropped there is nothing to follow.
    let window = decoder("mistral_window", LayerPolicy::think(0.0));
    window
        .hidden_after(&mut Cache::of(&window), &[1, 2])
        .unwrap();
    let mut other = decoder("llama", LayerPolicy::think(0.5));
    other.blocks.pop();
    let error = other
        .hidden_after(&mut Cache::of(&other), &[1, 2])
        .unwrap_err();
    assert!(error.to_string().contains("made for a model of"), "{error}");
}

#[test]
fn generation_goes_on_where_it_stood() {
    let decoder = decoder("llama", LayerPolicy::default());
    let prompt = &text(&decoder, 0)[..PROMPT];
    let all: Vec<u32> = Generation::new(&decoder, prompt, Sampler::greedy())
        .take(12)
        .collect::<Result<_, _>>()
        .unwrap();
    let mut parts = Generation::new(&decoder, prompt, Sampler::greedy());
    let first: Vec<u32> = parts.by_ref().take(5).collect::<Result<_, _>>().unwrap();
    let then: Vec<u32> = parts.by_ref().take(7).collect::<Result<_, _>>().unwrap();
    assert_eq!([first, then].concat(), all);
    assert_eq!(parts.text(), [prompt, &all].concat());
    // Another text goes on from what was read of the one before, or begins anew where it differs.
    for with in [
        [prompt, &all, &[3, 4]].concat(),
        [&prompt[..7], &[5]].concat(),
    ] {
        let mut anew = Generation::new(&decoder, &with, Sampler::greedy());
        parts.go_on(&with);
        assert_eq!(
            parts.next().unwrap().unwrap(),
            anew.next().unwrap().unwrap()
        );
    }
}

/// What is told on stderr by a command that could not run.
fn refused(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn run_think_writes_the_model_as_it_is_and_a_policy_that_evaluate_follows() {
    let place = folder();
    let out = place.path().join("thin");
    let told = json(&[
        "run",
        "think",
        "--lambda",
        "0.75",
        "--ctx",
        "128",
        "--windows",
        "4",
        "-o",
        path(&out),
    ]);
    assert_eq!(told["text"]["split"], 64);
    assert_ne!(told["after"]["perplexity"], told["before"]["perplexity"]);
    assert_eq!(told["after"]["bytes"], told["before"]["bytes"]);
    let policy: Value =
        serde_json::from_slice(&fs::read(out.join("cache_policy.json")).unwrap()).unwrap();
    assert_eq!(policy["common"]["keys"]["lambda"], 0.75);
    assert!(
        fs::read_to_string(out.join("README.md"))
            .unwrap()
            .contains("ThinKPress")
    );
    // By itself, and against none; the policy beside the weights is the usual one.
    let evaluate = |more: &[&str]| {
        let arguments = ["evaluate", path(&out), "--ctx", "128", "--windows", "4"];
        json(&[&arguments[..], more].concat())
    };
    let followed = evaluate(&[]);
    assert_eq!(followed["perplexity"], told["after"]["perplexity"]);
    assert_eq!(followed["text"]["split"], 64);
    let whole = evaluate(&["--cache", "none", "--split", "64"]);
    assert_eq!(whole["perplexity"], told["before"]["perplexity"]);
    assert!(whole["cache"]["bytes"].as_u64() > followed["cache"]["bytes"].as_u64());
    // Another method's output keeps the policy of its source.
    let cut = place.path().join("cut");
    success(&compress(&[
        "run",
        "svd",
        path(&out),
        "--keep",
        "0.9",
        "--no-evaluate",
        "-q",
        "-o",
        path(&cut),
    ]));
    assert!(cut.join("cache_policy.json").exists());
    assert_eq!(
        json(&["generate", path(&cut), "-p", "Once", "-n", "3"])["tokens"],
        3
    );
}

#[test]
fn a_comparison_takes_policies_as_variants() {
    let place = folder();
    let variants = place.path().join("variants.toml");
    fs::write(
        &variants,
        "[half]\nmethod = \"think\"\nlambda = 0.5\n[four]\nmethod = \"think\"\nlambda = 0.0\ncache-bits = 4\n\
         [three]\nmethod = \"think\"\nkey-bits = 3.0\nvalue-bits = 2\n",
    )
    .unwrap();
    let shipped = place.path().join("shipped");
    success(&compress(&[
        "run",
        "think",
        "--no-evaluate",
        "-q",
        "-o",
        path(&shipped),
    ]));
    fs::remove_file(shipped.join("cache_policy.json")).unwrap();
    let told = json(&[
        "compare",
        path(&shipped),
        path(&variants),
        "--ctx",
        "128",
        "--windows",
        "4",
    ]);
    let of = |i: usize| &told["variants"][i]["report"]["after"]["cache"]["bytes"];
    let bytes = [&told["original"]["cache"]["bytes"], of(0), of(1), of(2)].map(Value::as_u64);
    assert!(bytes.is_sorted_by(|more, less| more > less), "{bytes:?}");
}

#[test]
fn policies_without_sense_are_refused_before_any_work() {
    let place = folder();
    let out = place.path().join("out");
    let think = |more: &[&str]| {
        let arguments = ["run", "think", "-q", "-o", path(&out)];
        refused(&compress(&[&arguments[..], more].concat()))
    };
    assert!(think(&["--lambda", "1"]).contains("lambda"));
    assert!(think(&["--tokens", "0"]).contains("tokens"));
    let both = ["--cache-bits", "4", "--rotate", "--lambda", "0.4"];
    assert!(think(&both).contains("--rotate"));
    assert!(think(&["--cache-bits", "5"]).contains("possible values"));
    assert!(think(&["--key-bits", "3"]).contains("--value-bits"));
    assert!(think(&["--key-bits", "9", "--value-bits", "2"]).contains("from 1 to 8.5"));
    let three = ["--key-bits", "3", "--value-bits", "2", "--cache-bits", "4"];
    assert!(think(&three).contains("--cache-bits"));
    let dropped = ["--key-bits", "3", "--value-bits", "2", "--values", "0.2"];
    assert!(think(&dropped).contains("--values"));
    assert!(!out.exists());
    let policy = place.path().join("policy.json");
    let evaluate = |text: &str| {
        fs::write(&policy, text).unwrap();
        refused(&compress(&["evaluate", "--cache", path(&policy), "-q"]))
    };
    let other = r#"{"version": 1, "made_for": {"layers": 1, "key_value_heads": 1, "head_size": 2}, "common": {}}"#;
    assert!(evaluate(other).contains("made for a model of 1 layers"));
    assert!(evaluate(&other.replace("common", "commmon")).contains("commmon"));
    assert!(evaluate("{").contains("policy.json"));
    // A policy whose recent tokens are more than the prompt has says that it does nothing.
    let told = compress(&[
        "run",
        "think",
        "--recent",
        "64",
        "--ctx",
        "64",
        "--windows",
        "1",
        "-o",
        path(&out),
    ]);
    success(&told);
    assert!(String::from_utf8_lossy(&told.stderr).contains("nothing of it is thinned"));
}

#[test]
fn generate_ends_where_it_is_told_to() {
    let generate = |more: &[&str]| json(&[&["generate", "-p", "Once upon a time"], more].concat());
    let eight = generate(&["-n", "8"]);
    assert_eq!(
        (&eight["tokens"], &eight["ended_by"]),
        (&8.into(), &"length".into())
    );
    let text = eight["text"].as_str().unwrap();
    // A word from the middle of it stops it, and is left out.
    let word = text.split_whitespace().nth(2).unwrap();
    let stopped = generate(&["-n", "8", "--stop", word]);
    assert_eq!(stopped["ended_by"], "stop_text");
    assert_eq!(
        stopped["text"].as_str().unwrap(),
        text.split(word).next().unwrap()
    );
    // The same seed draws the same, another one something else.
    let drawn =
        |seed| generate(&["-n", "30", "--temperature", "1", "--seed", seed])["text"].clone();
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    // As text it goes to stdout behind its prompt.
    let shown = success(&compress(&[
        "generate",
        "-p",
        "Once upon a time",
        "-n",
        "8",
        "-q",
    ]));
    assert_eq!(
        shown.trim_end(),
        format!("Once upon a time{}", text.trim_end())
    );
}

#[test]
fn what_cannot_be_generated_says_why() {
    let refusal = refused(&compress(&["generate", "--chat", "-p", "Hello"]));
    assert!(refusal.contains("no chat template"), "{refusal}");
    // A context that is full is an end by itself; one that is too small for the prompt an error.
    let small = folder();
    let model = small.path().join("model");
    success(&compress(&[
        "run",
        "think",
        "--no-evaluate",
        "-q",
        "-o",
        path(&model),
    ]));
    edit_config(&model, |json| json["max_position_embeddings"] = 12.into());
    let told = json(&["generate", path(&model), "-p", "Once upon a time"]);
    assert_eq!(told["ended_by"], "context");
    let long = "Once upon a time there was a little girl who lived in a house by the sea";
    let refusal = refused(&compress(&["generate", path(&model), "-p", long]));
    assert!(refusal.contains("12 at most"), "{refusal}");
}

#[test]
fn layers_share_a_budget_of_bytes() {
    let place = folder();
    let words = place.path().join("words.txt");
    let story =
        "Once upon a time there was a little dog. He liked to play with a red ball in the park. ";
    fs::write(&words, story.repeat(40)).unwrap();
    let out = place.path().join("out");
    let think = |share: &str, more: &[&str]| {
        let arguments = [
            "run",
            "think",
            "--per-layer",
            share,
            "--samples",
            "1",
            "--ctx",
            "128",
            "-q",
        ];
        let others = ["--no-evaluate", "-o", path(&out)];
        compress(&[&arguments[..], &others[..], more].concat())
    };
    let text = ["--calibrate", path(&words)];
    assert!(refused(&think("0.25", &[])).contains("--calibrate"));
    assert!(refused(&think("0.01", &text)).contains("the least is"));
    success(&think("0.25", &text));
    let policy = fs::read_to_string(out.join("cache_policy.json")).unwrap();
    let policy: Policy = serde_json::from_str(&policy).unwrap();
    let size = policy.made_for.head_size;
    assert_eq!(policy.layers.len(), policy.made_for.layers);
    let bytes: f64 = policy
        .layers
        .values()
        .map(|layer| layer.bytes_of_old(size))
        .sum();
    let whole = (4 * size * policy.made_for.layers) as f64;
    assert!(
        bytes <= 0.25 * whole && bytes > 0.15 * whole,
        "{}",
        bytes / whole
    );
}

#[test]
fn needles_are_hidden_and_asked_for() {
    let told = json(&[
        "evaluate",
        "--ctx",
        "128",
        "--windows",
        "4",
        "--needles",
        "3",
    ]);
    assert_eq!(told["needles"]["asked"], 3);
    assert!(told["needles"]["found"].as_u64().unwrap() <= 3);
}

/// The shipped model with a chat template, whose answers end at a token of its vocabulary.
fn talking(place: &Path) -> std::path::PathBuf {
    let model = place.join("talking");
    success(&compress(&[
        "run",
        "think",
        "--no-evaluate",
        "-q",
        "-o",
        path(&model),
    ]));
    let template = "{% for m in messages %}{{ m.content }}. {% endfor %}";
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    model
}

#[test]
fn a_conversation_gives_what_its_text_read_anew_gives() {
    let place = folder();
    let model = talking(place.path());
    let ask = |question: &str| {
        let arguments = [
            "generate",
            path(&model),
            "--chat",
            "-n",
            "5",
            "-p",
            question,
        ];
        json(&arguments)["text"].as_str().unwrap().to_owned()
    };
    let first = ask("Once upon a time");
    // The second answer follows the whole conversation, as one text.
    let second = ask(&format!("Once upon a time. {first}. The dog was happy"));
    let mut command = common::command();
    let command = command.args(["generate", path(&model), "--chat", "-n", "5", "-q"]);
    let output = command
        .write_stdin("Once upon a time\nThe dog was happy\n")
        .output()
        .unwrap();
    assert_eq!(success(&output), format!("{first}\n{second}\n"));
    let refusal = refused(&compress(&[
        "generate",
        path(&model),
        "--chat",
        "--json",
        "-q",
    ]));
    assert!(refusal.contains("--prompt"), "{refusal}");
}

#[test]
fn options_out_of_their_range_are_refused_where_they_are_typed() {
    for words in [
        ["--temperature", "NaN"],
        ["--temperature=-1", "--quiet"],
        ["--top-p", "2"],
        ["--min-p", "1.5"],
        ["--top-k", "0"],
        ["--stop", ""],
    ] {
        let generate = compress(&[&["generate", "-p", "Once"], &words[..]].concat());
        let option = words[0].split('=').next().unwrap();
        assert!(refused(&generate).contains(option), "{words:?}");
    }
    let place = folder();
    let out = place.path().join("out");
    for words in [
        &["--per-layer", "nan", "--calibrate", "x"][..],
        &["--calibrate", "x"],
        &["--recent", "18446744073709551615", "--fold"],
        &["--cache-bits", "16", "--rotate"],
        &["--split", "512", "--ctx", "512"],
        &["--ctx", "2"],
        &["--documents", "<|endoftext|>"],
    ] {
        let think = compress(&[&["run", "think", "-q", "-o", path(&out)], words].concat());
        refused(&think);
        assert!(!out.exists(), "{words:?}");
    }
    let window = fixture("networks/mistral_window");
    let think = compress(&[
        "run",
        "think",
        path(&window),
        "--no-evaluate",
        "-q",
        "-o",
        path(&out),
    ]);
    assert!(refused(&think).contains("sliding-window"));
}

#[test]
fn a_policy_replaces_that_of_its_source_and_is_measured_against_a_whole_cache() {
    let place = folder();
    let [first, second] = ["first", "second"].map(|name| place.path().join(name));
    let text = ["--ctx", "128", "--windows", "4"];
    let run = |arguments: &[&str]| json(&[arguments, &text[..]].concat());
    let a = run(&["run", "think", "--lambda", "0.7", "-o", path(&first)]);
    let b = run(&[
        "run",
        "think",
        path(&first),
        "--lambda",
        "0.5",
        "-o",
        path(&second),
    ]);
    assert_eq!(a["before"]["perplexity"], b["before"]["perplexity"]);
    assert_ne!(a["after"]["perplexity"], b["after"]["perplexity"]);
    let policy = fs::read_to_string(second.join("cache_policy.json")).unwrap();
    let policy: Policy = serde_json::from_str(&policy).unwrap();
    assert_eq!(policy.common.keys.lambda, 0.5);
}
