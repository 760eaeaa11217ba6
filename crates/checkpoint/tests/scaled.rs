//! Weights of one byte with scales, FP8 and int8, are the floats that they stand for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::path::Path;

use common::{Tensors, bytes, changed, settings, tensors, written};
use compress_checkpoint::{Checkpoint, OutputSpec, names};
use compress_core::{Format, Role, Shape, Site, Weights};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

const SITE: Site = Site::new(1, Role::Down);

/// The number of a byte as E4M3 defines it, in double precision.
fn e4m3(byte: u8) -> Option<f64> {
    let sign = if byte < 128 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3) & 15, f64::from(byte & 7) / 8.0);
    match (exponent, byte & 7) {
        (15, 7) => None,
        (0, _) => Some(sign * mantissa * 2_f64.powi(-6)),
        _ => Some(sign * (1.0 + mantissa) * 2_f64.powi(exponent - 7)),
    }
}

/// Bytes that are all numbers of E4M3, one after the other.
fn codes(count: usize) -> Vec<u8> {
    let all = (0..=255_u8).filter(|byte| e4m3(*byte).is_some());
    all.cycle().skip(count % 97).take(count).collect()
}

/// Positive numbers that differ from each other.
fn steps(count: usize) -> Vec<f32> {
    (0..count).map(|i| 0.001 * (i as f32 + 1.0)).collect()
}

/// How the weights of the blocks are made.
#[derive(Clone, Copy)]
struct Made<'a> {
    dtype: Dtype,
    /// The name of the scales.
    scale: &'a str,
    /// The shape of the scales for that of the weight.
    scales: &'a dyn Fn(Shape) -> Vec<usize>,
    /// Further tensors of a layer: name, dtype, shape as that of the scales or of one number.
    more: &'a [(&'a str, Dtype)],
}

/// The weights of the blocks as bytes with scales.
fn in_bytes(tensors: &mut Tensors, made: Made<'_>) {
    let weights = tensors.keys().filter(|name| name.ends_with("_proj.weight"));
    for name in weights.cloned().collect::<Vec<_>>() {
        let (dtype, shape, data) = tensors.get_mut(&name).unwrap();
        let (rows, cols) = (shape[0], shape[1]);
        *dtype = made.dtype;
        *data = codes(rows * cols);
        let shape = (made.scales)(Shape::new(rows, cols));
        let count = shape.iter().product();
        let module = name.strip_suffix("weight").unwrap();
        let of_scales = (Dtype::F32, shape.clone(), bytes(&steps(count)));
        tensors.insert(format!("{module}{}", made.scale), of_scales);
        for (name, dtype) in made.more {
            let (shape, data) = match dtype {
                Dtype::I8 => (shape.clone(), (0..count).map(|i| i as u8).collect()),
                _ => (vec![1], bytes(&[0.5])),
            };
            tensors.insert(format!("{module}{name}"), (*dtype, shape, data));
        }
    }
}

/// A block of compressed-tensors with one group.
fn compressed_tensors(format: &str, weights: &Value, inputs: &Value) -> Value {
    json!({
        "quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": { "group_0": {
            "targets": ["Linear"], "weights": weights, "input_activations": inputs,
            "output_activations": null,
        } },
    })
}

/// The settings of float weights in compressed-tensors.
fn fp8(strategy: &str, more: &Value) -> Value {
    let mut weights = json!({
        "num_bits": 8, "type": "float", "symmetric": true, "strategy": strategy, "dynamic": false,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        weights[name] = value.clone();
    }
    weights
}

fn model(block: &Value, made: Made<'_>) -> TempDir {
    changed("llama", |json, tensors| {
        json["quantization_config"] = block.clone();
        in_bytes(tensors, made);
    })
}

/// What the weight of a site should be: each byte by its definition, the scale of its block, and a
/// zero point.
fn expected(tensors: &Tensors, site: Site, scale: &str, block: Shape) -> Vec<f32> {
    let module = names::module(site);
    let (dtype, shape, data) = &tensors[&format!("{module}.weight")];
    let scales = Format::F32.decode(&tensors[&format!("{module}.{scale}")].2);
    let zeros = tensors.get(&format!("{module}.weight_zero_point"));
    let (cols, across) = (shape[1], shape[1].div_ceil(block.cols));
    let numbers = data.iter().enumerate().map(|(i, &byte)| {
        let (row, col) = (i / cols, i % cols);
        let index = row / block.rows * across + col / block.cols;
        let zero = zeros.map_or(0, |(_, _, data)| data[index].cast_signed());
        let number = match dtype {
            Dtype::I8 => f64::from(byte.cast_signed()),
            _ => e4m3(byte).unwrap(),
        };
        ((number - f64::from(zero)) * f64::from(scales[index])) as f32
    });
    numbers.collect()
}

/// Checks whole tensors and rows of them, for a model that stores its blocks so.
#[track_caller]
fn check(block: &Value, made: Made<'_>, of: impl Fn(Shape) -> Shape) {
    let folder = model(block, made);
    let (read, tensors) = (
        Checkpoint::open(folder.path()).unwrap(),
        tensors(folder.path()),
    );
    let plain = Checkpoint::open(&common::fixture("llama")).unwrap();
    assert_eq!(read.parameters(), plain.parameters());
    assert_eq!(read.tensors().len(), plain.tensors().len());
    assert_eq!(read.shapes(), plain.shapes());
    assert_eq!(read.format(), Format::Bf16);
    for site in Site::blocks(2) {
        let shape = read.config().weight_shape(site);
        let expected = expected(&tensors, site, made.scale, of(shape));
        assert_eq!(read.load(site).unwrap().data(), expected, "{site}");
        let mut rows = vec![0.0; 3 * shape.cols];
        for first in [0, 5, shape.rows - 3] {
            read.rows(site, first, &mut rows).unwrap();
            assert_eq!(rows, expected[first * shape.cols..][..rows.len()]);
        }
    }
}

const PER_TENSOR: &dyn Fn(Shape) -> Vec<usize> = &|_| vec![1];
const PER_ROW: &dyn Fn(Shape) -> Vec<usize> = &|shape| vec![shape.rows, 1];

/// Scales of float weights, without more.
fn floats<'a>(scale: &'a str, scales: &'a dyn Fn(Shape) -> Vec<usize>) -> Made<'a> {
    Made {
        dtype: Dtype::F8_E4M3,
        scale,
        scales,
        more: &[],
    }
}

/// Checks a model of FP8 in compressed-tensors.
#[track_caller]
fn check_floats(block: &Value, scales: &dyn Fn(Shape) -> Vec<usize>, of: &dyn Fn(Shape) -> Shape) {
    check(block, floats("weight_scale", scales), of);
}

#[test]
fn floats_of_compressed_tensors_are_read_with_any_scales() {
    let block =
        |strategy, more| compressed_tensors("float-quantized", &fp8(strategy, &more), &Value::Null);
    check_floats(&block("tensor", json!({})), PER_TENSOR, &|shape| shape);
    check_floats(&block("tensor", json!({})), &|_| vec![], &|shape| shape);
    let row = |shape: Shape| Shape::new(1, shape.cols);
    check_floats(&block("channel", json!({})), PER_ROW, &row);
    check_floats(
        &block("channel", json!({})),
        &|shape| vec![shape.rows],
        &row,
    );
    let groups = block("group", json!({ "group_size": 16 }));
    let sixteens = |shape: Shape| vec![shape.rows, shape.cols / 16];
    check_floats(&groups, &sixteens, &|_| Shape::new(1, 16));
    // None of these divides 64 or 96 rows and columns, except the last but one.
    for (a, b) in [(128, 128), (40, 48), (7, 5), (32, 32), (1, 100)] {
        let blocks = block("block", json!({ "block_structure": [a, b] }));
        let scales = move |shape: Shape| vec![shape.rows.div_ceil(a), shape.cols.div_ceil(b)];
        check_floats(&blocks, &scales, &|_| Shape::new(a, b));
    }
}

#[test]
fn integers_of_a_byte_are_read_with_and_without_zero_points() {
    let weights = |symmetric: bool| json!({ "num_bits": 8, "type": "int", "symmetric": symmetric, "strategy": "channel" });
    let made = Made {
        dtype: Dtype::I8,
        ..floats("weight_scale", PER_ROW)
    };
    let row = |shape: Shape| Shape::new(1, shape.cols);
    for format in ["int-quantized", "naive-quantized"] {
        let block = compressed_tensors(format, &weights(true), &Value::Null);
        check(&block, made, row);
        let more = &[("weight_zero_point", Dtype::I8)];
        let block = compressed_tensors(format, &weights(false), &Value::Null);
        check(&block, Made { more, ..made }, row);
    }
}

#[test]
fn the_methods_fp8_and_fbgemm_are_read() {
    let blocks = json!({
        "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
        "weight_block_size": [48, 40], "modules_to_not_convert": ["lm_head"],
    });
    let scales = |shape: Shape| vec![shape.rows.div_ceil(48), shape.cols.div_ceil(40)];
    check(&blocks, floats("weight_scale_inv", &scales), |_| {
        Shape::new(48, 40)
    });
    for (scale, input) in [
        ("weight_scale_inv", "activation_scale"),
        ("weight_scale", "input_scale"),
    ] {
        let whole = json!({ "quant_method": "fp8", "activation_scheme": "static" });
        let more = &[(input, Dtype::F32)];
        let made = floats(scale, PER_TENSOR);
        check(&whole, Made { more, ..made }, |shape| shape);
    }
    let rows = json!({ "quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0 });
    check(&rows, floats("weight_scale", PER_ROW), |shape| {
        Shape::new(1, shape.cols)
    });
}

#[test]
fn inputs_that_are_rounded_elsewhere_are_told_of() {
    let inputs = json!({ "num_bits": 8, "type": "float", "dynamic": true, "strategy": "token" });
    let told = |inputs: Value| {
        let block = compressed_tensors("float-quantized", &fp8("channel", &json!({})), &inputs);
        let folder = model(&block, floats("weight_scale", PER_ROW));
        Checkpoint::open(folder.path()).unwrap().warnings().to_vec()
    };
    assert!(told(Value::Null).is_empty());
    let warnings = told(inputs);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("F8_E4M3"), "{warnings:?}");
}

#[test]
fn an_output_has_plain_floats_and_nothing_left_of_the_scales() {
    let block = json!({ "quant_method": "fp8", "activation_scheme": "static" });
    let made = Made {
        more: &[("input_scale", Dtype::F32)],
        ..floats("weight_scale", PER_TENSOR)
    };
    let (folder, place) = (model(&block, made), tempfile::tempdir().unwrap());
    let source = Checkpoint::open(folder.path()).unwrap();
    let target = place.path().join("out");
    let output = written(&source, &OutputSpec::default(), &[], &target);
    assert_eq!(output.forms(), source.forms());
    let (before, after) = (tensors(folder.path()), tensors(&target));
    let plain: Vec<_> = tensors(&common::fixture("llama")).into_keys().collect();
    assert_eq!(after.keys().cloned().collect::<Vec<_>>(), plain);
    for (name, contents) in &after {
        if names::site_of_weight(name).is_some_and(|site| site.role().is_some()) {
            assert_eq!(contents.0, Dtype::BF16, "{name}");
            let numbers = Format::Bf16.encode(&source.numbers(name).unwrap());
            assert_eq!(contents.2, numbers, "{name}");
        } else {
            assert_eq!(contents, &before[name], "{name}");
        }
    }
    let settings = settings(&target);
    assert!(settings["quantization_config"].is_null());
    assert_eq!(settings["dtype"], "bfloat16");
    assert!(output.warnings().is_empty());
}

/// A change of a model.
type Change<'a> = &'a dyn Fn(&mut Value, &mut Tensors);

/// Refused, with these words in the message.
#[track_caller]
fn refused(model: &Path, words: &[&str]) {
    let error = Checkpoint::open(model).err().map(|error| error.to_string());
    let error = error.expect("what should be refused is read");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn a_number_that_is_none_names_its_tensor() {
    let block = json!({ "quant_method": "fbgemm_fp8" });
    let name = names::weight(SITE);
    let spoilt: [&dyn Fn(&mut Tensors); 4] = [
        &|tensors| tensors.get_mut(&name).unwrap().2[77] = 0x7f,
        &|tensors| tensors.get_mut(&name).unwrap().2[77] = 0xff,
        &|tensors| {
            let scales = tensors.get_mut(&format!("{name}_scale")).unwrap();
            scales.2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        },
        &|tensors| {
            let scales = tensors.get_mut(&format!("{name}_scale")).unwrap();
            scales.2[..4].copy_from_slice(&f32::MAX.to_le_bytes());
        },
    ];
    for spoil in spoilt {
        let folder = changed("llama", |json, tensors| {
            json["quantization_config"] = block.clone();
            in_bytes(tensors, floats("weight_scale", PER_ROW));
            spoil(tensors);
        });
        let model = Checkpoint::open(folder.path()).unwrap();
        let error = model.numbers(&name).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("NaN"), "{error}");
    }
}

#[test]
fn scales_that_do_not_fit_are_refused_by_name() {
    let weight = names::weight(SITE);
    let scale = format!("{weight}_scale");
    let channel = compressed_tensors("float-quantized", &fp8("channel", &json!({})), &Value::Null);
    let spoilt = |change: Change<'_>| {
        changed("llama", |json, tensors| {
            json["quantization_config"] = channel.clone();
            in_bytes(tensors, floats("weight_scale", PER_ROW));
            change(json, tensors);
        })
    };
    let cases: [(Change<'_>, &[&str]); 8] = [
        (
            &|_, tensors| drop(tensors.remove(&scale)),
            &[&scale, "no tensor"],
        ),
        (
            &|_, tensors| {
                let (_, shape, data) = tensors.get_mut(&scale).unwrap();
                (*shape, *data) = (vec![2, 2], vec![0; 16]);
            },
            &[&weight, "[2, 2]", "Row"],
        ),
        (
            &|_, tensors| {
                let (dtype, _, data) = tensors.get_mut(&scale).unwrap();
                (*dtype, *data) = (Dtype::F8_E8M0, vec![0; data.len() / 4]);
            },
            &[&scale, "F8_E8M0", "F32"],
        ),
        (
            &|json, _| json["quantization_config"] = Value::Null,
            &["F8_E4M3"],
        ),
        (
            &|json, _| json["quantization_config"]["ignore"] = json!(["re:.*down_proj"]),
            &["down_proj", "quantization_config"],
        ),
        (
            &|json, _| {
                json["quantization_config"]["config_groups"]["group_0"]["weights"]["type"] =
                    json!("int");
            },
            &["F8_E4M3"],
        ),
        // Without rounded inputs nothing is known of such a tensor.
        (
            &|_, tensors| {
                let name = scale.replace("weight_scale", "input_scale");
                tensors.insert(name, (Dtype::F32, vec![1], vec![0; 4]));
            },
            &["input_scale"],
        ),
        (
            &|_, tensors| {
                let name = format!("{scale}_inv");
                tensors.insert(name, (Dtype::F32, vec![1], vec![0; 4]));
            },
            &["weight_scale_inv"],
        ),
    ];
    for (change, words) in cases {
        refused(spoilt(change).path(), words);
    }
}

#[test]
fn other_methods_are_refused_with_what_is_supported() {
    let channel = fp8("channel", &json!({}));
    let of_format = |format| compressed_tensors(format, &channel, &Value::Null);
    for (block, word) in [
        (json!({ "quant_method": "gptq", "bits": 4 }), "gptq"),
        (json!({ "quant_method": "awq", "bits": 4 }), "awq"),
        (
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }),
            "bitsandbytes",
        ),
        (json!({ "quant_method": "mxfp4" }), "mxfp4"),
        (json!({ "load_in_4bit": true }), "quant_method"),
        (of_format("nvfp4-pack-quantized"), "nvfp4-pack-quantized"),
        (of_format("mxfp8-quantized"), "mxfp8-quantized"),
        (of_format("mixed-precision"), "mixed-precision"),
        (
            json!({ "quant_method": "compressed-tensors", "config_groups": { "W8A8": ["Linear"] } }),
            "W8A8",
        ),
        (json!({ "quant_method": "fp8", "fmt": "e5m2" }), "e5m2"),
        (
            json!({ "quant_method": "fp8", "weight_block_size": [128] }),
            "weight_block_size",
        ),
        (
            json!({ "quant_method": "fp8", "weight_block_size": [0, 128] }),
            "weight_block_size",
        ),
        (
            json!({ "quant_method": "fp8", "kv_cache_scheme": "static" }),
            "kv_cache_scheme",
        ),
        (
            json!({ "quant_method": "fp8", "activation_scheme": "odd" }),
            "activation_scheme",
        ),
        (
            compressed_tensors("float-quantized", &fp8("block", &json!({})), &Value::Null),
            "block",
        ),
        (
            compressed_tensors("float-quantized", &fp8("token", &json!({})), &Value::Null),
            "token",
        ),
        (
            compressed_tensors(
                "float-quantized",
                &fp8("tensor", &json!({ "num_bits": 4 })),
                &Value::Null,
            ),
            "4 bits",
        ),
        (
            compressed_tensors(
                "float-quantized",
                &fp8("tensor", &json!({ "symmetric": false })),
                &Value::Null,
            ),
            "symmetric",
        ),
    ] {
        let folder = changed("llama", |json, _| {
            json["quantization_config"] = block.clone()
        });
        refused(folder.path(), &["config.json", word, "supported are"]);
    }
}

#[test]
fn models_of_mlx_are_refused_as_that() {
    let mlx = json!({ "group_size": 64, "bits": 4, "mode": "affine" });
    for fields in [
        &["quantization"][..],
        &["quantization", "quantization_config"],
        &["quantization_config"],
    ] {
        let folder = changed("llama", |json, tensors| {
            for field in fields {
                json[field] = mlx.clone();
            }
            for end in ["scales", "biases"] {
                let name = names::weight(SITE).replace("weight", end);
                tensors.insert(name, (Dtype::F32, vec![64, 2], vec![0; 512]));
            }
        });
        refused(folder.path(), &["MLX", fields[0], "supported are"]);
    }
}
