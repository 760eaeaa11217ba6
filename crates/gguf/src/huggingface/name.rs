//! Tensor names: from GGUF's, such as `blk.7.attn_q.weight`, to the checkpoint's.

/// The linear layers of a block: GGUF's name, the checkpoint's name.
const PROJECTIONS: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The norms of a block, which have weights but no biases.
const NORMS: [(&str, &str); 4] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];

/// The checkpoint's name for the tensor `gguf_name`; none for a tensor that no checkpoint of the
/// family has.
///
/// `rope_freqs.weight` is among the latter: its numbers follow from the config of a checkpoint, and
/// [`config`](super::config()) says of them what the config of the checkpoint said.
///
/// ```
/// use compress_gguf::huggingface::tensor_name;
///
/// let there = tensor_name("blk.7.attn_q.weight");
/// assert_eq!(there.as_deref(), Some("model.layers.7.self_attn.q_proj.weight"));
/// assert_eq!(tensor_name("rope_freqs.weight"), None);
/// ```
#[must_use]
pub fn tensor_name(gguf_name: &str) -> Option<String> {
    let whole = match gguf_name {
        "token_embd.weight" => "model.embed_tokens.weight",
        "output_norm.weight" => "model.norm.weight",
        "output.weight" => "lm_head.weight",
        _ => return block_tensor_name(gguf_name),
    };
    Some(whole.to_owned())
}

/// The same for a tensor of a block.
fn block_tensor_name(gguf_name: &str) -> Option<String> {
    let (layer, module, parameter) = parts(gguf_name)?;
    let named = |modules: &[(&str, &'static str)]| {
        modules
            .iter()
            .find(|(here, _)| *here == module)
            .map(|(_, there)| *there)
    };
    let there = match parameter {
        "weight" => named(&PROJECTIONS).or_else(|| named(&NORMS)),
        "bias" => named(&PROJECTIONS),
        _ => None,
    }?;
    Some(format!("model.layers.{layer}.{there}.{parameter}"))
}

/// The module of a block that a tensor belongs to, such as `attn_q`; none outside the blocks.
pub(super) fn block_module(gguf_name: &str) -> Option<&str> {
    parts(gguf_name).map(|(_, module, _)| module)
}

/// The module whose bias a tensor is; none for weights.
pub(super) fn block_bias(gguf_name: &str) -> Option<&str> {
    parts(gguf_name)
        .filter(|(.., parameter)| *parameter == "bias")
        .map(|(_, module, _)| module)
}

/// Splits `blk.7.attn_q.weight` into 7, `attn_q` and `weight`; none for other forms.
fn parts(gguf_name: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = gguf_name.strip_prefix("blk.")?.split_once('.')?;
    let (module, parameter) = rest.split_once('.')?;
    let number: usize = layer.parse().ok()?;
    // "07" and "+7" parse as 7 too, and would give two tensors one name.
    (number.to_string() == layer).then_some((number, module, parameter))
}
