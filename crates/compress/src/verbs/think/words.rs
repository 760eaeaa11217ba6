//! A cache policy in words, for reports and cards.

use compress_think::{Format, LayerPolicy, Policy};

/// What a cache keeps, in a sentence's end.
pub fn in_words(policy: &Policy) -> String {
    if !policy.layers.is_empty() {
        return "keeps as many bits of each layer as it needs".into();
    }
    let LayerPolicy {
        keys,
        values,
        tokens,
        window,
        recent,
        sinks,
        ..
    } = &policy.common;
    let share = |x: f64| format!("{:.0} %", 100.0 * x);
    let mut parts = Vec::new();
    if keys.lambda > 0.0 {
        parts.push(format!(
            "drops {} of the channels of old keys",
            share(keys.lambda)
        ));
    }
    if values.lambda > 0.0 {
        parts.push(format!(
            "drops {} of those of old values",
            share(values.lambda)
        ));
    }
    match (keys.format, values.format.bits()) {
        (Format::Mixed { bits: keys }, Some(values)) => parts.push(format!(
            "keeps old keys in {keys} bits on average and values in {values}"
        )),
        (_, Some(bits)) => parts.push(format!("keeps old tokens in {bits} bits")),
        _ => {}
    }
    if *sinks > 0 {
        parts.push(format!("keeps the first {sinks} tokens whole"));
    }
    if *tokens < 1.0 {
        parts.push(format!("keeps {} of a prompt's old tokens", share(*tokens)));
    }
    if parts.is_empty() {
        parts.push("keeps all channels and tokens".into());
    }
    format!("{} (window {window}, recent {recent})", parts.join(", "))
}

/// The nearest settings of other programs, for the card.
pub fn elsewhere(policy: &Policy) -> String {
    let words = in_words(policy);
    let policy = &policy.common;
    let mut lines = vec![
        "## Key-value cache".to_owned(),
        format!(
            "Weights are those of the source. `cache_policy.json` says what `compress generate` and `compress evaluate` keep of \
             keys and values: the cache {words}. transformers and vLLM load the model and keep all of it."
        ),
    ];
    if policy.keys.lambda > 0.0 {
        lines.push(format!(
            "- kvpress: `ThinKPress(key_channel_compression_ratio={}, window_size={})`, the same channels; but it writes zeros to \
             them in all tokens, the newest too, and saves no memory.",
            policy.keys.lambda, policy.window
        ));
    }
    if policy.tokens < 1.0 {
        lines.push(format!(
            "- kvpress: `SnapKVPress(compression_ratio={:.3}, window_size={})`.",
            1.0 - policy.tokens,
            policy.window
        ));
    }
    if policy.values.format.bits().is_some() {
        lines.push(
            "- transformers: `cache_implementation=\"quantized\"` with the backend quanto or HQQ (4 or 2 bits); vLLM: \
             `--kv-cache-dtype fp8`, 8 bits, floats, no groups."
                .into(),
        );
    }
    if lines.len() > 2 {
        lines.insert(2, "The nearest settings that other programs have:".into());
    }
    lines.push(String::new());
    lines.join("\n\n")
}
