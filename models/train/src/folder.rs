//! The model's folder: its config, initial random weights, and trained ones.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use burn::{
    module::Param,
    nn::RmsNorm,
    tensor::{Device, Tensor},
};
use compress_checkpoint::{
    Config,
    names::{self, NormSite},
};
use compress_core::{Format, Role, Site};
use compress_models::{Decoder, Linear, Store, Weight};
use compress_numerics::Random;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// Tokens of the tokenizer, and rows of the embedding.
pub const VOCABULARY: usize = 1024;

/// A Llama small enough to ship: three query heads that share one of keys and values.
pub fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "float16"
    })
}

/// Writes config and random weights, normal with variance 1 / inputs, and less where a layer writes to the residual
/// stream.
pub fn initialise(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("config.json"), format!("{:#}\n", config()))?;
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": crate::corpus::BOS,
        "eos_token": crate::corpus::BOS,
        "model_max_length": 256,
        "clean_up_tokenization_spaces": false
    });
    std::fs::write(
        folder.join("tokenizer_config.json"),
        format!("{settings:#}\n"),
    )?;
    let config = Config::parse(config(), folder)?;
    let mut random = Random(1);
    let mut normal = |shape: &[usize], scale: f32| {
        (0..shape.iter().product())
            .map(|_| scale * random.normal())
            .collect::<Vec<f32>>()
    };
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.other_tensors() {
        // Norms start as the identity.
        let ones = vec![1.0; shape.iter().product()];
        tensors.insert(name, (shape, ones));
    }
    let embedding = config.weight_shape(Site::Embedding);
    let embedding = vec![embedding.rows, embedding.cols];
    let numbers = normal(&embedding, 0.02);
    tensors.insert(names::weight(Site::Embedding), (embedding, numbers));
    for site in Site::blocks(config.layers) {
        let shape = config.weight_shape(site);
        // As in GPT-2: layers that write to the residual stream start smaller by √(2 · layers), so that its size does
        // not grow with depth.
        let deep = matches!(site.role(), Some(Role::Output | Role::Down));
        let scale = (shape.cols as f32).sqrt().recip()
            * if deep {
                (2.0 * config.layers as f32).sqrt().recip()
            } else {
                1.0
            };
        tensors.insert(
            names::weight(site),
            (
                vec![shape.rows, shape.cols],
                normal(&[shape.rows, shape.cols], scale),
            ),
        );
    }
    write(&tensors, Format::F16, folder)
}

/// Writes the weights of a decoder as `f16`; its head is tied, and its weights are whole.
pub fn save(model: &Decoder, folder: &Path) -> Result<()> {
    let mut tensors = BTreeMap::new();
    // Burn's modules have their own names; a checkpoint has Hugging Face's.
    let mut add = |name: String, (shape, numbers): Named| {
        tensors.insert(name, (shape, numbers));
    };
    if let Weight::Whole(Store::Float(embedding)) = &model.embedding {
        add(names::weight(Site::Embedding), numbers(embedding)?);
    }
    add(names::norm(NormSite::Last), norm(&model.norm)?);
    for (layer, block) in model.blocks.iter().enumerate() {
        let before_attention = names::norm(NormSite::Attention(layer));
        add(before_attention, norm(&block.attention_norm)?);
        let before_feed_forward = names::norm(NormSite::FeedForward(layer));
        add(before_feed_forward, norm(&block.feed_forward_norm)?);
        let (attention, feed_forward) = (&block.attention, &block.feed_forward);
        let linears: [&Linear; 7] = [
            &attention.query,
            &attention.key,
            &attention.value,
            &attention.output,
            &feed_forward.gate,
            &feed_forward.up,
            &feed_forward.down,
        ];
        for (role, linear) in Role::ALL.into_iter().zip(linears) {
            if let Weight::Whole(Store::Float(weight)) = &linear.weight {
                add(names::weight(Site::new(layer, role)), numbers(weight)?);
            }
        }
    }
    write(&tensors, Format::F16, folder)
}

/// A tensor's shape and numbers.
pub type Named = (Vec<usize>, Vec<f32>);

/// The gain of a norm.
fn norm(norm: &RmsNorm) -> Result<Named> {
    numbers(&norm.gamma)
}

/// Shape and numbers of a parameter, taken out of autodiff to the CPU.
fn numbers<const D: usize>(parameter: &Param<Tensor<D>>) -> Result<Named> {
    let tensor = parameter.val().inner().to_device(&Device::flex());
    let shape = tensor.dims().to_vec();
    let numbers = tensor
        .into_data()
        .as_slice::<f32>()
        .map_err(|e| anyhow::anyhow!("{e:?}"))?
        .to_vec();
    Ok((shape, numbers))
}

/// Writes `model.safetensors` by way of a temporary name, so that the folder always holds a whole model.
pub fn write(tensors: &BTreeMap<String, Named>, format: Format, folder: &Path) -> Result<()> {
    let encoded: Vec<(&String, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, numbers))| (name, &shape[..], format.encode(numbers)))
        .collect();
    let dtype = match format {
        Format::F32 => Dtype::F32,
        Format::F16 => Dtype::F16,
        Format::Bf16 => Dtype::BF16,
    };
    let views = encoded
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(dtype, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let beside = folder.join("model.safetensors.new");
    safetensors::serialize_to_file(views, Some(metadata), &beside)?;
    std::fs::rename(beside, folder.join("model.safetensors"))?;
    Ok(())
}
