//! `config.json` from the metadata of a file.

use serde_json::{Value, json};

use super::architecture::{Architecture, Keys};
use super::name::block_bias;
use super::scaling::rope_scaling;
use super::unsupported;
use crate::metadata::needed;
use crate::{Error, Gguf};

/// The base of the rotary frequencies where a file does not give one, as in llama.cpp and
/// transformers.
const ROPE_THETA: f64 = 10_000.0;

/// The `config.json` of the checkpoint that the file was converted from, as far as metadata and
/// tensor names tell.
///
/// Fails where the architecture is not llama, qwen2 or qwen3, where a key is missing or of the
/// wrong type, and where the model has a feature that this config would not express: partial rotary
/// embedding or one scaled in other ways than linear, yarn or Llama 3's (which shows as a tensor
/// `rope_freqs.weight`), experts, or values of another width than keys.
pub fn config(gguf: &Gguf) -> Result<Value, Error> {
    let (architecture, keys) = Architecture::of(gguf)?;
    let heads = keys.heads()?;
    let hidden = keys.needed_whole("embedding_length")?;
    let head_dim = head_dim(keys, hidden, heads)?;
    refuse_experts(keys)?;
    let theta = keys.number("rope.freq_base")?.unwrap_or(ROPE_THETA);
    let epsilon = "attention.layer_norm_rms_epsilon";
    let mut config = json!({
        "architectures": [architecture.class()],
        "model_type": architecture.name(),
        "hidden_size": hidden,
        "intermediate_size": keys.needed_whole("feed_forward_length")?,
        "num_hidden_layers": keys.needed_whole("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": keys.key_value_heads()?,
        "head_dim": head_dim,
        "vocab_size": vocabulary(gguf)?,
        "max_position_embeddings": keys.needed_whole("context_length")?,
        "rms_norm_eps": needed(&keys.key(epsilon), keys.number(epsilon)?)?,
        "rope_theta": theta,
        "rope_scaling": rope_scaling(gguf, (architecture, keys), head_dim, theta)?,
        "hidden_act": "silu",
        // A file without a head of its own shares the embedding's matrix.
        "tie_word_embeddings": !gguf.tensors().contains_key("output.weight"),
        "bos_token_id": gguf.whole("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": gguf.whole("tokenizer.ggml.eos_token_id")?,
        // Quantized blocks have no dtype in a checkpoint; f16 is what they are written in.
        "torch_dtype": "float16",
    });
    // transformers' Qwen2 has biases on queries, keys and values whatever its config says.
    if let (Some(fields), true) = (config.as_object_mut(), architecture != Architecture::Qwen2) {
        fields.insert("attention_bias".to_owned(), has_bias(gguf, "attn_").into());
        fields.insert("mlp_bias".to_owned(), has_bias(gguf, "ffn_").into());
    }
    Ok(config)
}

/// The width of a head; an error where values or rotation have another one than keys.
fn head_dim(keys: Keys, hidden: usize, heads: usize) -> Result<usize, Error> {
    let width = match keys.whole("attention.key_length")? {
        Some(width) => width,
        None => hidden
            .checked_div(heads)
            .ok_or_else(|| unsupported("a model of 0 heads"))?,
    };
    for suffix in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = keys.whole(suffix)?.filter(|other| *other != width) {
            return Err(unsupported(format!(
                "{} of {other} with heads of {width}",
                keys.key(suffix)
            )));
        }
    }
    Ok(width)
}

/// The rows of the embedding, which may exceed the number of tokens (padded vocabularies); without
/// an embedding the number of tokens.
fn vocabulary(gguf: &Gguf) -> Result<usize, Error> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    if let Some([rows, _]) = gguf
        .tensors()
        .get("token_embd.weight")
        .map(|tensor| tensor.shape.as_slice())
    {
        return Ok(*rows);
    }
    let tokens = gguf.list(TOKENS, "a list of strings", |token| token.as_str())?;
    Ok(needed(TOKENS, tokens)?.len())
}

/// Fails for mixture-of-experts models, which share the architecture's name.
fn refuse_experts(keys: Keys) -> Result<(), Error> {
    match keys.whole("expert_count")? {
        None | Some(0) => Ok(()),
        Some(experts) => Err(unsupported(format!(
            "{experts} experts ({})",
            keys.key("expert_count")
        ))),
    }
}

/// Whether any block has a bias tensor in a module with this prefix: the metadata do not say.
fn has_bias(gguf: &Gguf, modules: &str) -> bool {
    gguf.tensors()
        .keys()
        .filter_map(|name| block_bias(name))
        .any(|module| module.starts_with(modules))
}
