//! Models with weights of one byte, and the numbers that they should have.

use compress_checkpoint::{Checkpoint, names};
use compress_core::{Format, Role, Shape, Site, Weights};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{self, Tensors, bytes, changed, tensors};

pub const SITE: Site = Site::new(1, Role::Down);

/// The number of a byte as E4M3 defines it, in double precision.
pub fn e4m3(byte: u8) -> Option<f64> {
    let sign = if byte < 128 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3) & 15, f64::from(byte & 7) / 8.0);
    match (exponent, byte & 7) {
        (15, 7) => None,
        (0, _) => Some(sign * mantissa * 2_f64.powi(-6)),
        _ => Some(sign * (1.0 + mantissa) * 2_f64.powi(exponent - 7)),
    }
}

/// Bytes that are all numbers of E4M3, one after the other.
pub fn codes(count: usize) -> Vec<u8> {
    let all = (0..=255_u8).filter(|byte| e4m3(*byte).is_some());
    all.cycle().skip(count % 97).take(count).collect()
}

/// Positive numbers that differ from each other.
pub fn steps(count: usize) -> Vec<f32> {
    (0..count).map(|i| 0.001 * (i as f32 + 1.0)).collect()
}

/// How the weights of the blocks are made.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    pub dtype: Dtype,
    /// The name of the scales.
    pub scale: &'a str,
    /// The shape of the scales for that of the weight.
    pub scales: &'a dyn Fn(Shape) -> Vec<usize>,
    /// Further tensors of a layer: name, dtype, shape as that of the scales or of one number.
    pub more: &'a [(&'a str, Dtype)],
}

/// The weights of the blocks as bytes with scales.
pub fn in_bytes(tensors: &mut Tensors, made: Made<'_>) {
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
pub fn compressed_tensors(format: &str, weights: &Value, inputs: &Value) -> Value {
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
pub fn fp8(strategy: &str, more: &Value) -> Value {
    let mut weights = json!({
        "num_bits": 8, "type": "float", "symmetric": true, "strategy": strategy, "dynamic": false,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        weights[name] = value.clone();
    }
    weights
}

pub fn model(block: &Value, made: Made<'_>) -> TempDir {
    changed("llama", |json, tensors| {
        json["quantization_config"] = block.clone();
        in_bytes(tensors, made);
    })
}

/// What the weight of a site should be: each byte by its definition, the scale of its block, and a
/// zero point.
pub fn expected(tensors: &Tensors, site: Site, scale: &str, block: Shape) -> Vec<f32> {
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
pub fn check(block: &Value, made: Made<'_>, of: impl Fn(Shape) -> Shape) {
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

pub const PER_TENSOR: &dyn Fn(Shape) -> Vec<usize> = &|_| vec![1];
pub const PER_ROW: &dyn Fn(Shape) -> Vec<usize> = &|shape| vec![shape.rows, 1];

/// Scales of float weights, without more.
pub fn floats<'a>(scale: &'a str, scales: &'a dyn Fn(Shape) -> Vec<usize>) -> Made<'a> {
    Made {
        dtype: Dtype::F8_E4M3,
        scale,
        scales,
        more: &[],
    }
}

/// Checks a model of FP8 in compressed-tensors.
#[track_caller]
pub fn check_floats(
    block: &Value,
    scales: &dyn Fn(Shape) -> Vec<usize>,
    of: &dyn Fn(Shape) -> Shape,
) {
    check(block, floats("weight_scale", scales), of);
}
