//! Settings of the rotary embedding: θ, and how its frequencies are scaled for long contexts.
//!
//! transformers 5 has an object `rope_parameters` with θ in it; earlier versions have `rope_theta` beside an object
//! `rope_scaling`, which also counts in version 5 where there are both.

use serde_json::{Map, Value};

use super::{
    fields::Fields,
    keys::{self, ROPE},
};
use crate::{Error, Result};

/// The rotary embedding of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base θ of the wavelengths: pair i of the d channels of a head turns θ^(−2i/d) radians per position.
    pub theta: f64,
    /// How these frequencies are scaled, where they are.
    pub scaling: Option<RopeScaling>,
}

/// A way to stretch the rotary embedding to contexts longer than those of the first training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// All frequencies divided by a factor (position interpolation, arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// From `context` tokens on, a base that grows with the length of the text (dynamic NTK).
    Dynamic {
        /// The growth per multiple of the context.
        factor: f64,
        /// Up to so many tokens nothing changes.
        context: f64,
    },
    /// Low frequencies divided by a factor, high ones kept, blended by wavelength.
    Llama3(Llama3Scaling),
    /// Low frequencies divided by a factor, high ones kept, blended by channel; scores sharpened (arXiv 2309.00071).
    Yarn(YarnScaling),
}

/// Llama 3's way to stretch the rotary embedding to long contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// By how much low frequencies are slowed down.
    pub factor: f64,
    /// Wavelengths above `original_context / low` are slowed down fully.
    pub low: f64,
    /// Wavelengths below `original_context / high` are left alone.
    pub high: f64,
    /// The context that the model was first trained for.
    pub original_context: f64,
}

/// `YaRN`'s way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct YarnScaling {
    /// By how much low frequencies are slowed down.
    pub factor: f64,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
    /// Pairs that turn more often than this within the original context are left alone.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are slowed down fully.
    pub beta_slow: f64,
    /// Whether the two bounds are moved outwards to whole channels.
    pub truncate: bool,
    /// The context that the model was first trained for.
    pub original_context: f64,
}

impl Rope {
    /// From the fields of the whole file; `context` is the longest that the model is for.
    ///
    /// Fails for a kind of scaling that is not implemented, and for settings that are missing or unknown.
    pub(super) fn parse(fields: &Fields<'_>, context: usize) -> Result<Self> {
        let inner = inner(fields)?;
        // The kind first: what it needs has names of its own.
        let scaling = match &inner {
            Some((name, rope)) => scaling((fields, name), rope, context)?,
            None => None,
        };
        fields.refuse(keys::ROTARY)?;
        if let Some((_, rope)) = &inner {
            rope.refuse(keys::ROTARY)?;
            rope.refuse_unknown()?;
        }
        Ok(Self {
            theta: theta(fields, inner.as_ref().map(|(_, rope)| rope))?,
            scaling,
        })
    }
}

/// Repeats the settings of `rope_parameters` where transformers 4 looks for them; it would take the defaults without a
/// word.
pub fn repeat_for_older_readers(json: &mut Map<String, Value>) {
    let counts = ROPE.iter().find_map(|name| json.get(*name)?.as_object());
    let Some(mut newer) = counts.cloned() else {
        return;
    };
    let is_set =
        |json: &Map<String, Value>, name| json.get(name).is_some_and(|value| !value.is_null());
    if let Some(theta) = newer
        .remove("rope_theta")
        .filter(|_| !is_set(json, "rope_theta"))
    {
        json.insert("rope_theta".into(), theta);
    }
    let scales = newer.get("rope_type").is_some_and(|kind| kind != "default");
    if scales && !is_set(json, "rope_scaling") {
        json.insert("rope_scaling".into(), newer.into());
    }
}

/// The object with the rotary settings and its name.
fn inner<'a>(fields: &'a Fields<'_>) -> Result<Option<(&'static str, Fields<'a>)>> {
    let named = ROPE.map(|name| Some((name, fields.get(name)?)));
    let Some((name, value)) = named.into_iter().flatten().next() else {
        return Ok(None);
    };
    let json = value.as_object();
    let json = json.ok_or_else(|| fields.wrong(name, "is not an object"))?;
    if json.values().any(Value::is_object) {
        let problem = "differs by the type of layers; one for all of them is supported";
        return Err(fields.wrong(name, problem));
    }
    let path = fields.path;
    Ok(Some((name, Fields { json, path })))
}

/// θ: at the top level, else among the rotary settings, else 10 000, the default of transformers.
fn theta(fields: &Fields<'_>, inner: Option<&Fields<'_>>) -> Result<f64> {
    let outer = fields.optional_positive("rope_theta")?;
    let inner = inner.map(|rope| rope.optional_positive("rope_theta"));
    match (outer, inner.transpose()?.flatten()) {
        // transformers 4 takes the one, version 5 the other.
        (Some(one), Some(other)) if one.to_bits() != other.to_bits() => Err(fields.wrong(
            "rope_theta",
            format!("is {one}, and {other} among the rotary settings; keep the one that the model was trained with"),
        )),
        (one, other) => Ok(one.or(other).unwrap_or(10_000.0)),
    }
}

fn scaling(
    (fields, name): (&Fields<'_>, &str),
    rope: &Fields<'_>,
    context: usize,
) -> Result<Option<RopeScaling>> {
    // Older files have `type` in place of `rope_type`.
    let kind = rope.get("rope_type").or_else(|| rope.get("type"));
    match kind.and_then(Value::as_str) {
        // In a scaling without a type the two versions of transformers see an error and no scaling.
        None if rope.get("factor").is_some() => Err(fields.wrong(
            name,
            "has a `factor`, but no `rope_type` that says how it scales",
        )),
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear {
            factor: rope.positive("factor")?,
        })),
        Some("dynamic") => Ok(Some(RopeScaling::Dynamic {
            factor: rope.positive("factor")?,
            context: context as f64,
        })),
        Some("llama3") => llama3(rope).map(RopeScaling::Llama3).map(Some),
        Some("yarn") => yarn(rope, context).map(RopeScaling::Yarn).map(Some),
        Some(other) => Err(fields.wrong(
            name,
            format!("has type `{other}`; supported are default, linear, dynamic, llama3 and yarn"),
        )),
    }
}

/// Llama 3's four parameters. `high` above `low` is required, since the interpolation divides by their difference.
fn llama3(rope: &Fields<'_>) -> Result<Llama3Scaling> {
    let scaling = Llama3Scaling {
        factor: rope.positive("factor")?,
        low: rope.positive("low_freq_factor")?,
        high: rope.positive("high_freq_factor")?,
        original_context: rope.positive("original_max_position_embeddings")?,
    };
    if scaling.high > scaling.low {
        Ok(scaling)
    } else {
        Err(rope.wrong("high_freq_factor", "is not above `low_freq_factor`"))
    }
}

/// `YaRN`'s parameters, with the defaults of transformers.
fn yarn(rope: &Fields<'_>, context: usize) -> Result<YarnScaling> {
    let factor = rope.positive("factor")?;
    // The temperature of section 3.4 of the paper.
    let temperature = |scale: f64| 0.1 * scale * factor.max(1.0).ln() + 1.0;
    // 0 counts as missing.
    let scale = |name| match rope.get(name).and_then(Value::as_f64) {
        Some(0.0) => Ok(None),
        _ => rope.optional_positive(name),
    };
    let said = rope.optional_positive("attention_factor")?;
    let attention_factor = match (said, scale("mscale")?, scale("mscale_all_dim")?) {
        (Some(said), ..) => said,
        (None, Some(scale), Some(all)) => temperature(scale) / temperature(all),
        (None, ..) => temperature(1.0),
    };
    let or = |name, otherwise| Ok::<_, Error>(rope.optional_positive(name)?.unwrap_or(otherwise));
    Ok(YarnScaling {
        factor,
        attention_factor,
        beta_fast: or("beta_fast", 32.0)?,
        beta_slow: or("beta_slow", 1.0)?,
        truncate: rope.flag("truncate", true)?,
        original_context: or("original_max_position_embeddings", context as f64)?,
    })
}
