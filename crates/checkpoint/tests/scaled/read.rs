//! Reading them, and writing them again.

use compress_checkpoint::{Checkpoint, OutputSpec, names};
use compress_core::{Format, Shape};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{
    common::{self, settings, tensors, written},
    made::*,
};

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
