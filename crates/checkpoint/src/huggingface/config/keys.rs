//! The table of settings: those that are read, those that change nothing of what the network computes, and those that
//! would.
//!
//! A setting in none of the lists is taken for one that would, unless it is off: files of the supported families are
//! extended by people with code of their own, and a model without their extension would be another model.

use serde_json::Value;

use crate::huggingface::settings::is_off;

/// The value of a setting with which it changes nothing.
#[derive(Clone, Copy, Debug)]
pub enum Neutral {
    /// False, 0 or empty.
    Off,
    /// True.
    On,
    /// 1: a factor.
    One,
    /// `full_attention` for every layer.
    Full,
    /// One of these words.
    Words(&'static [&'static str]),
}

impl Neutral {
    /// Whether it is that value.
    pub fn is(self, value: &Value) -> bool {
        match self {
            Self::Off => is_off(value) || value.as_f64() == Some(0.0),
            Self::On => value == true,
            Self::One => value.as_f64() == Some(1.0),
            Self::Full => value
                .as_array()
                .is_some_and(|layers| layers.iter().all(|kind| kind == "full_attention")),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

/// The objects with rotary settings, the one that counts first.
pub const ROPE: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// Settings that are read, here or elsewhere in this crate.
const READ: &[&str] = &[
    "model_type",
    "architectures",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "hidden_act",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "bos_token_id",
    "quantization_config",
    "quantization",
    "torch_dtype",
    "dtype",
    // Of outputs of this program.
    "lowrank",
    "mixtures",
    "auto_map",
    "compress_adapter",
];

/// Settings that change nothing of what the network computes for a text.
const HARMLESS: &[&str] = &[
    // Tokens and texts.
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "prefix",
    "tokenizer_class",
    "model_max_length",
    "max_sequence_length",
    "seq_length",
    "image_token_id",
    "unk_token_id",
    // Training.
    "initializer_range",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "hidden_dropout_prob",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "classifier_dropout",
    "neftune_noise_alpha",
    "use_cache",
    "gradient_checkpointing",
    "pretraining_tp",
    "tensor_parallel_degree",
    "tie_encoder_decoder",
    "unsloth_fixed",
    "unsloth_version",
    "unsloth_optimized",
    // How a program runs it.
    "attn_implementation",
    "use_flash_attn",
    "use_flash_attention",
    "use_flash_attention_2",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "return_dict",
    "use_return_dict",
    "torchscript",
    "use_bfloat16",
    "tf_legacy_loss",
    "chunk_size_feed_forward",
    // Attention in chunks beyond a quarter of a million tokens, of other programs than transformers.
    "dual_chunk_attention_config",
    "num_nextn_predict_layers",
    "pad_vocab_size_multiple",
    "layer_norm_eps",
    "transformers_version",
    "transformers.js_config",
    // Generation and classes.
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    // Says of a file of another family that it is one of these.
    "is_llama_config",
    "is_decoder",
    // The object that counts is read, the other one repeats it.
    ROPE[0],
    ROPE[1],
    // Of the parts of an object with rotary settings: those of one kind of scaling stand beside another.
    "rope_type",
    "type",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "finetuned",
];

/// Rotary settings that would change what is computed. Work on weights alone has no need of the rotary embedding, so
/// they are refused where it is asked for.
pub const ROTARY: &[(&str, Neutral)] = &[
    ("partial_rotary_factor", Neutral::One),
    ("rotary_pct", Neutral::One),
    ("rotary_dim", Neutral::Off),
    ("rotary_emb_base", Neutral::Off),
    ("rope_interleaved", Neutral::Off),
    ("rope_ratio", Neutral::One),
    ("no_rope_layers", Neutral::Off),
    ("no_rope_layer_interval", Neutral::Off),
    ("use_mrope", Neutral::Off),
    ("mrope_section", Neutral::Off),
    ("mrope_interleaved", Neutral::Off),
    ("use_dynamic_ntk", Neutral::Off),
    ("use_logn_attn", Neutral::Off),
    ("short_factor", Neutral::Off),
    ("long_factor", Neutral::Off),
];

/// Other settings of relatives of these networks that would.
pub const OTHER: &[(&str, Neutral)] = &[
    // Attention.
    ("layer_types", Neutral::Full),
    ("attn_logit_softcapping", Neutral::Off),
    ("attention_multiplier", Neutral::Off),
    ("qk_layernorm", Neutral::Off),
    ("use_qk_norm", Neutral::Off),
    ("qk_norm", Neutral::Off),
    ("pruned_heads", Neutral::Off),
    ("is_causal", Neutral::On),
    ("use_bidirectional_attention", Neutral::Off),
    ("add_cross_attention", Neutral::Off),
    ("cross_attention_hidden_size", Neutral::Off),
    ("is_encoder_decoder", Neutral::Off),
    (
        "position_embedding_type",
        Neutral::Words(&["rope", "rotary"]),
    ),
    ("alibi", Neutral::Off),
    // Scales of other families.
    ("final_logit_softcapping", Neutral::Off),
    ("embedding_multiplier", Neutral::One),
    ("residual_multiplier", Neutral::One),
    ("logits_scaling", Neutral::One),
    ("logit_scale", Neutral::One),
    ("scale_emb", Neutral::One),
    ("scale_depth", Neutral::Off),
    // Layers of other kinds.
    ("hidden_activation", Neutral::Words(&["silu", "swish"])),
    ("norm_type", Neutral::Words(&["rms_norm", "rmsnorm"])),
    ("use_parallel_residual", Neutral::Off),
    ("parallel_attn", Neutral::Off),
    ("num_experts", Neutral::Off),
    ("num_local_experts", Neutral::Off),
    ("num_experts_per_tok", Neutral::Off),
    ("n_routed_experts", Neutral::Off),
];

/// Whether a setting is none of those that are known, and could change what is computed.
pub fn is_unknown(name: &str, value: &Value) -> bool {
    // Words and names that begin with `_` describe a model: where it comes from, when and by whom.
    let describes = value.is_string() || name.starts_with('_');
    let is_listed = [READ, HARMLESS].iter().any(|names| names.contains(&name))
        || [ROTARY, OTHER]
            .iter()
            .any(|rows| rows.iter().any(|(row, _)| *row == name));
    !is_listed && !describes && !Neutral::Off.is(value)
}
