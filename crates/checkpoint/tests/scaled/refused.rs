//! What is refused of them.

use std::path::Path;

use compress_checkpoint::{Checkpoint, names};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{
    common::{Tensors, changed},
    made::{PER_ROW, SITE, compressed_tensors, floats, fp8, in_bytes},
};

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
