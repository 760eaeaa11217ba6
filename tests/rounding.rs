//! Weights of few bits, from the command line to running them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use common::{compress, fixture, folder, success, text};
use compress_checkpoint::Checkpoint;
use compress_core::{Bits, Factor, Form, Matrix, PairForm, Precision, Role, Scheme, Shape, Site};
use compress_models::{Decoder, Device, Tensor, Weight};
use serde_json::Value;

/// Rounds a fixture's network without looking at any data.
fn round(network: &str, output: &Path, more: &[&str]) -> Checkpoint {
    let model = fixture(network);
    let own = [
        "run",
        "lorc",
        text(&model),
        "--quantizer",
        "nearest",
        "--metric",
        "plain",
        "-o",
        text(output),
        "--no-evaluate",
        "-q",
    ];
    success(&compress(&[&own, more].concat()));
    Checkpoint::open(output).unwrap()
}

fn logits(model: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let hidden = model.hidden(&[tokens]).unwrap();
    let [_, time, width] = hidden.dims();
    let logits = model.logits(hidden.reshape([time, width]));
    logits.into_data().try_into_vec().unwrap()
}

#[test]
fn what_runs_packed_gives_what_it_gives_multiplied_out() {
    let place = folder();
    for (index, (network, more)) in [
        ("networks/llama", &["--group", "16"][..]),
        (
            "networks/llama_biased",
            &["--group", "16", "--asymmetric", "--rank", "3"],
        ),
        ("networks/qwen2", &["--group", "0", "--bits", "8"]),
        (
            "networks/qwen3",
            &["--group", "16", "--bits", "3", "--rank", "2"],
        ),
        (
            "networks/mistral",
            &["--group", "8", "--bits", "2", "--rank", "4"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let output = place.path().join(index.to_string());
        let rounded = round(network, &output, more);
        let rank = more.iter().position(|word| *word == "--rank");
        let rank = rank.map_or(0, |place| more[place + 1].parse().unwrap());
        let mut packed = Decoder::load(&rounded, &Device::flex()).unwrap();
        let tokens: Vec<u32> = (0..12)
            .map(|i| (i * 7 + 1) % packed.vocabulary() as u32)
            .collect();
        let ours = logits(&packed, &tokens);
        for (layer, role) in (0..packed.blocks.len()).flat_map(|i| Role::ALL.map(|role| (i, role)))
        {
            let factor = rounded.factor(Site::new(layer, role)).unwrap();
            assert_eq!(factor.form().correction(), rank);
            let dense = Factor::whole(factor.dense().unwrap());
            let linear = packed.blocks[layer].linear_mut(role);
            linear.replace(dense, &Device::flex()).unwrap();
        }
        let dense = logits(&packed, &tokens);
        let most = dense.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        for (a, b) in ours.iter().zip(&dense) {
            assert!((a - b).abs() <= 1e-4 * most, "{network}: {a} {b}");
        }
    }
}

#[test]
fn factors_embedding_and_head_are_rounded_by_any_method() {
    let place = folder();
    for network in ["networks/llama", "networks/llama_biased"] {
        let [whole, rounded] = [false, true].map(|rounded| {
            let output = place
                .path()
                .join(network.replace('/', "_") + &rounded.to_string());
            let model = fixture(network);
            let own = [
                "run",
                "svd",
                text(&model),
                "--keep",
                "0.5",
                "--no-evaluate",
                "-q",
            ];
            let bits: &[&str] = if rounded {
                &["--factor-bits", "8", "--embedding-bits", "8"]
            } else {
                &[]
            };
            success(&compress(&[&own, bits, &["-o", text(&output)]].concat()));
            Checkpoint::open(&output).unwrap()
        });
        let scheme = Scheme::symmetric(Bits::Eight, None);
        for (site, form) in rounded.forms() {
            let expected = match whole.forms()[site] {
                Form::LowRank(pair) => Form::LowRank(PairForm::quantised(pair.rank, scheme)),
                _ => Form::quantised(scheme, 0), // embedding and head
            };
            assert_eq!(*form, expected, "{site}");
        }
        let tokens: Vec<u32> = (0..12).map(|i| i * 7 % 30).collect();
        let [whole, mut rounded] =
            [whole, rounded].map(|model| Decoder::load(&model, &Device::flex()).unwrap());
        let close = |a: &[f32], b: &[f32], by: f32| {
            let most = b.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f32::max) <= by * most, "{network}");
        };
        let found = logits(&rounded, &tokens);
        close(&found, &logits(&whole, &tokens), 0.05);
        // What runs packed gives what it gives multiplied out.
        rounded.embedding = dense(&rounded.embedding);
        for block in &mut rounded.blocks {
            for role in Role::ALL {
                let linear = block.linear_mut(role);
                linear.weight = dense(&linear.weight);
            }
        }
        close(&found, &logits(&rounded, &tokens), 1e-4);
    }
}

/// A weight multiplied out: its products with unit vectors.
fn dense(weight: &Weight) -> Weight {
    let device = Device::flex();
    let Shape { rows, cols } = weight.shape();
    let columns = weight.forward(Tensor::eye(cols, &device)); // in × out
    let numbers: Vec<f32> = columns.transpose().into_data().try_into_vec().unwrap();
    let matrix = Matrix::new(rows, cols, numbers).unwrap();
    Weight::new(Factor::whole(matrix), &device).unwrap()
}

#[test]
fn what_is_not_rounded_stays_byte_for_byte() {
    let place = folder();
    let output = place.path().join("out");
    let before = Checkpoint::open(&fixture("networks/llama")).unwrap();
    let after = round(
        "networks/llama",
        &output,
        &["--group", "16", "--skip", "down"],
    );
    for name in before.tensors().keys() {
        let rounded = name.contains("_proj.weight") && !name.contains("down_proj");
        if rounded {
            assert!(!after.tensors().contains_key(name), "{name}");
        } else {
            assert_eq!(
                before.raw(name).unwrap(),
                after.raw(name).unwrap(),
                "{name}"
            );
        }
    }
    assert!(!output.join("adapter").exists());
    let config = fs::read_to_string(output.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let block = &config["quantization_config"];
    let ignored: Vec<&str> = block["ignore"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_str().unwrap())
        .collect();
    assert!(ignored.contains(&"lm_head") && ignored.contains(&"model.layers.0.mlp.down_proj"));
    assert_eq!(before.parameters(), after.parameters());
}

#[test]
fn data_makes_fewer_errors_and_the_number_of_threads_none() {
    let place = folder();
    let run = |name: &str, more: &[&str]| {
        let output = place.path().join(name);
        let evidence = place.path().join("evidence");
        let own = [
            "run",
            "lorc",
            "--bits",
            "3",
            "-o",
            text(&output),
            "--ctx",
            "64",
            "--windows",
            "16",
        ];
        let own = [
            &own[..],
            &[
                "--samples",
                "32",
                "--evidence",
                text(&evidence),
                "--json",
                "-q",
            ],
        ]
        .concat();
        let json: Value =
            serde_json::from_str(&success(&compress(&[&own, more].concat()))).unwrap();
        json["after"]["perplexity"].as_f64().unwrap()
    };
    let nearest = run("nearest", &["--quantizer", "nearest"]);
    let fitted = run("fitted", &["--one-shot"]);
    let corrected = run("corrected", &["--one-shot", "--rank", "4"]);
    assert!(fitted < nearest, "{fitted} {nearest}");
    assert!(corrected < nearest, "{corrected} {nearest}");
    let again = compress(&[
        "evaluate",
        text(&place.path().join("corrected")),
        "--ctx",
        "64",
        "--windows",
        "16",
        "--json",
        "-q",
    ]);
    let again: Value = serde_json::from_str(&success(&again)).unwrap();
    assert!((again["perplexity"].as_f64().unwrap() - corrected).abs() < 1e-9);
}

#[test]
fn what_cannot_be_rounded_is_said() {
    let place = folder();
    let output = place.path().join("out");
    for (more, told) in [
        (&["--group", "7"][..], "group"),
        (&["--bits", "5"], "bits"),
        (&["--keep", "0.5"], "lorc takes no --keep"),
        (&["--target-size", "1MB"], "lorc takes no --keep"),
        (&["--plan", "/nowhere"], "/nowhere"),
        (&["--rank", "1000", "--plan", "/nowhere"], "--rank"),
    ] {
        let own = ["run", "lorc", "-o", text(&output), "--no-evaluate", "-q"];
        let run = compress(&[&own, more].concat());
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{more:?}: {stderr}");
        assert!(stderr.contains(told), "{more:?}: {stderr}");
        assert!(!output.exists() && !place.path().join("out.compress-work").exists());
    }
}

#[test]
fn weights_that_were_rounded_before_keep_their_scheme() {
    let place = folder();
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    round(
        "networks/llama",
        &first,
        &["--group", "16", "--only", "mlp"],
    );
    let again = |bits| {
        compress(&[
            "run",
            "lorc",
            text(&first),
            "--quantizer",
            "nearest",
            "--group",
            "16",
            "--bits",
            bits,
            "-o",
            text(&second),
            "--no-evaluate",
            "-q",
        ])
    };
    let rounded = |form: Form| matches!(form, Form::Whole(Precision::Quantised(_)));
    let original = Checkpoint::open(&fixture("networks/llama")).unwrap();
    for (bits, groups) in [("4", 1), ("8", 2)] {
        success(&again(bits));
        let model = Checkpoint::open(&second).unwrap();
        let mut blocks = Site::blocks(model.config().layers);
        assert!(blocks.all(|site| rounded(model.forms()[&site])));
        assert_eq!(model.parameters(), original.parameters());
        // A group for each scheme, so that every loader multiplies by the right integers.
        let config = fs::read(second.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let found = config["quantization_config"]["config_groups"].as_object();
        assert_eq!(found.unwrap().len(), groups);
        fs::remove_dir_all(&second).unwrap();
    }
}

#[test]
fn a_damaged_rounded_model_is_refused() {
    let place = folder();
    let output = place.path().join("out");
    round("networks/llama", &output, &["--group", "16", "--rank", "2"]);
    let path = output.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    for (from, to, told) in [
        ("\"num_bits\": 4", "\"num_bits\": 5", "has 5 bits"),
        ("\"group_size\": 16", "\"group_size\": 32", "weight_scale"),
        ("\"group_size\": 16", "\"group_size\": 7", "group"),
        (
            "\"quant_method\": \"compressed-tensors\"",
            "\"quant_method\": \"gptq\"",
            "gptq",
        ),
        (
            "quantization_config",
            "_quantization_config",
            "quantization_config",
        ),
        (
            "\"symmetric\": true",
            "\"symmetric\": false",
            "weight_zero_point",
        ),
    ] {
        let damaged = config.replace(from, to);
        assert_ne!(damaged, config, "{from}");
        fs::write(&path, damaged).unwrap();
        let run = compress(&["inspect", text(&output)]);
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{to}: {stderr}");
        assert!(stderr.contains(told), "{to}: {stderr}");
    }
}
