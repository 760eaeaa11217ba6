//! `rope_scaling` of a config: how rotary frequencies are stretched for longer contexts.
//!
//! The metadata name a type with its settings; Llama 3's has none, but a tensor with a divisor for
//! each frequency.

use serde_json::{Value, json};

use super::architecture::{Architecture, Keys};
use super::{llama3, unsupported};
use crate::{Error, Gguf};

/// The tensor with a divisor for each rotary frequency. It is no tensor of a checkpoint: the config
/// says what it says.
pub const DIVISORS: &str = "rope_freqs.weight";

/// The key of yarn's factor on the attention, below the architecture's name.
const ATTENTION: &str = "rope.scaling.yarn_attn_factor";

/// The `rope_scaling` of a model with heads of a given width; null where nothing is scaled.
///
/// Fails for kinds of scaling and settings that it could not express, by their names.
pub(super) fn rope_scaling(
    gguf: &Gguf,
    (architecture, keys): (Architecture, Keys),
    head_dim: usize,
    theta: f64,
) -> Result<Value, Error> {
    refuse_other_settings(gguf, keys)?;
    let by_tensor = by_tensor(gguf, (architecture, keys), head_dim, theta)?;
    let by_metadata = by_metadata(keys)?;
    match by_tensor {
        None => Ok(by_metadata),
        Some(scaling) if by_metadata.is_null() => Ok(scaling),
        // No config says that both are done.
        Some(_) => Err(unsupported(format!(
            "two scalings of the rotary embedding, by the tensor {DIVISORS} and by {}",
            keys.key("rope.scaling.type")
        ))),
    }
}

/// What to tell of how the scaling is read; none where there is no doubt.
///
/// The conversion writes transformers' `attention_factor` under this key, and so it is read back.
/// llama.cpp multiplies it with the factor that is usual for the scaling.
pub(super) fn warning(keys: Keys) -> Result<Option<String>, Error> {
    let factor = keys.number(ATTENTION)?;
    Ok(factor.map(|factor| {
        format!(
            "{} {factor} is taken for transformers' attention_factor, as the conversion writes it; llama.cpp \
             multiplies it with 0.1 ln(factor) + 1: if the original config.json has another one, correct the output's",
            keys.key(ATTENTION)
        )
    }))
}

/// The scaling by the tensor of divisors, if the file has it; null where all divisors are 1.
fn by_tensor(
    gguf: &Gguf,
    (architecture, keys): (Architecture, Keys),
    head_dim: usize,
    theta: f64,
) -> Result<Option<Value>, Error> {
    let Some(tensor) = gguf.tensors().get(DIVISORS) else {
        return Ok(None);
    };
    // llama.cpp reads the tensor for this architecture only: what it means elsewhere is open.
    if architecture != Architecture::Llama {
        return Err(unsupported(format!(
            "scaled rotary embedding by the tensor {DIVISORS} in the architecture {}",
            architecture.name()
        )));
    }
    if !head_dim.is_multiple_of(2) || tensor.shape != [head_dim / 2] {
        return Err(unsupported(format!(
            "the tensor {DIVISORS} of shape {:?} with heads of {head_dim}: one divisor for each two rows is known",
            tensor.shape
        )));
    }
    let original = keys.whole("rope.scaling.original_context_length")?;
    match llama3::recover(&gguf.divisors, theta, original) {
        Some(scaling) => Ok(Some(scaling)),
        None => Err(unsupported(format!(
            "scaled rotary embedding by the tensor {DIVISORS}: its divisors are not those of Llama 3's scaling \
             with the base {theta}"
        ))),
    }
}

/// The scaling by type and factor; null for a factor of 1.
fn by_metadata(keys: Keys) -> Result<Value, Error> {
    let named = keys.text("rope.scaling.type")?;
    // `rope.scale_linear` is the older key.
    let factor = match keys.number("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.number("rope.scale_linear")?,
    };
    match (named, factor) {
        // A factor without a type is the older way to say linear.
        (Some("none"), _) | (None, None) | (None | Some("linear" | "yarn"), Some(1.0)) => {
            Ok(Value::Null)
        }
        (None | Some("linear"), Some(factor)) if factor > 1.0 => {
            Ok(json!({"rope_type": "linear", "factor": factor}))
        }
        (Some("yarn"), Some(factor)) if factor > 1.0 => yarn(keys, factor),
        (kind, factor) => Err(unsupported(format!(
            "scaled rotary embedding ({} {}, factor {}): none, linear and yarn are known, with factors from 1 on",
            keys.key("rope.scaling.type"),
            kind.unwrap_or("not given"),
            factor.map_or("not given".to_owned(), |factor| factor.to_string()),
        ))),
    }
}

/// Yarn's settings; transformers has the same defaults for those that a file does not give.
///
/// # References
/// Peng et al.: `YaRN`: Efficient Context Window Extension of Large Language Models, 2023.
fn yarn(keys: Keys, factor: f64) -> Result<Value, Error> {
    // Without the key llama.cpp takes the context length of the model, as transformers does.
    let original = match keys.whole("rope.scaling.original_context_length")? {
        Some(original) => original,
        None => keys.needed_whole("context_length")?,
    };
    let mut scaling = json!({
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
    });
    let settings = [
        ("rope.scaling.yarn_beta_fast", "beta_fast"),
        ("rope.scaling.yarn_beta_slow", "beta_slow"),
        (ATTENTION, "attention_factor"),
    ];
    for (here, there) in settings {
        let Some(number) = keys.number(here)? else {
            continue;
        };
        if number <= 0.0 {
            return Err(unsupported(format!(
                "{} of {number}: a number above 0 is known",
                keys.key(here)
            )));
        }
        scaling[there] = number.into();
    }
    Ok(scaling)
}

/// Fails for tensors and settings of other scalings. Those with the value that changes nothing
/// pass.
fn refuse_other_settings(gguf: &Gguf, keys: Keys) -> Result<(), Error> {
    // `rope_factors_long` and `rope_factors_short` are those of longrope.
    let tensor = gguf
        .tensors()
        .keys()
        .find(|name| name.starts_with("rope_f") && *name != DIVISORS);
    if let Some(name) = tensor {
        return Err(unsupported(format!(
            "scaled rotary embedding (tensor {name})"
        )));
    }
    // transformers' config has no place for these. A log multiplier means different things to the
    // programs that write it.
    let neutral = [
        ("rope.scaling.yarn_ext_factor", 1.0),
        ("rope.scaling.yarn_log_multiplier", 0.0),
        ("rope.scaling.attn_factor", 1.0),
        ("rope.scaling.alpha", 0.0),
    ];
    for (suffix, neutral) in neutral {
        if let Some(number) = keys
            .number(suffix)?
            .filter(|number| (number - neutral).abs() > f64::EPSILON)
        {
            return Err(unsupported(format!(
                "{} of {number}: only {neutral} is known, which changes nothing",
                keys.key(suffix)
            )));
        }
    }
    Ok(())
}
