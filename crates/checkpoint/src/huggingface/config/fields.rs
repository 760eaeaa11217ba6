//! Typed access to the fields of a `config.json`, with errors that name the field and the value
//! found.
//!
//! Null counts as missing, as transformers writes null for a setting that is unset.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Architecture, Error, Llama3Scaling, Result, huggingface::settings::is_off};

/// The value of a setting with which it changes nothing.
enum Neutral {
    /// False, 0 or an empty list.
    Off,
    /// 1: a factor.
    One,
    /// `full_attention` for every layer.
    Full,
}

impl Neutral {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Off => is_off(value) || value.as_f64() == Some(0.0),
            Self::One => value.as_f64() == Some(1.0),
            Self::Full => value
                .as_array()
                .is_some_and(|layers| layers.iter().all(|kind| kind == "full_attention")),
        }
    }
}

/// Settings of relatives of these networks that would change what is computed: skipping one would give another model.
/// They stand in files of the supported families where somebody has extended one with code of their own.
const UNSUPPORTED: [(&str, Neutral); 19] = [
    // Rotary embedding.
    ("partial_rotary_factor", Neutral::One),
    ("rotary_pct", Neutral::One),
    ("rope_interleaved", Neutral::Off),
    ("no_rope_layers", Neutral::Off),
    ("use_mrope", Neutral::Off),
    ("mrope_section", Neutral::Off),
    // Attention.
    ("layer_types", Neutral::Full),
    ("attn_logit_softcapping", Neutral::Off),
    ("attention_multiplier", Neutral::Off),
    ("qk_layernorm", Neutral::Off),
    ("use_qk_norm", Neutral::Off),
    ("pruned_heads", Neutral::Off),
    // Scales of other families.
    ("final_logit_softcapping", Neutral::Off),
    ("embedding_multiplier", Neutral::One),
    ("residual_multiplier", Neutral::One),
    ("logits_scaling", Neutral::One),
    ("logit_scale", Neutral::One),
    // Mixtures of experts.
    ("num_experts", Neutral::Off),
    ("num_local_experts", Neutral::Off),
];

/// A JSON object of the file, the whole of it or the one with rotary settings, and the path for
/// errors.
pub struct Fields<'a> {
    pub json: &'a Map<String, Value>,
    pub path: &'a Path,
}

impl Fields<'_> {
    /// The error that a field has a problem.
    pub fn wrong(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.into(),
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// A field that is present and not null: transformers writes null for a setting that is unset.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.json.get(field).filter(|value| !value.is_null())
    }

    /// The family of `model_type`; fails where it is missing, not a string or not supported.
    pub fn architecture(&self) -> Result<Architecture> {
        let found = self
            .get("model_type")
            .ok_or_else(|| self.wrong("model_type", "is missing"))?;
        let found = found
            .as_str()
            .ok_or_else(|| self.wrong("model_type", "is not a string"))?;
        // Outputs of this program with low-rank pairs have a `model_type` of their own, for their
        // modelling file.
        let plain = found.strip_prefix("lowrank_").unwrap_or(found);
        Architecture::ALL
            .into_iter()
            .find(|architecture| architecture.model_type() == plain)
            .ok_or_else(|| Error::Architecture {
                path: self.path.into(),
                found: found.into(),
            })
    }

    /// A size between 1 and 2²⁴, if the field is there.
    pub fn optional_size(&self, field: &str) -> Result<Option<usize>> {
        // No size of a real network lies above; below, products of two stay far from overflowing.
        let in_range = |n: &u64| (1..=1 << 24).contains(n);
        self.get(field)
            .map(|value| {
                let size = value
                    .as_u64()
                    .filter(in_range)
                    .and_then(|n| usize::try_from(n).ok());
                size.ok_or_else(|| self.wrong(field, format!("is {value}, not a size")))
            })
            .transpose()
    }

    /// A size that must be there.
    pub fn size(&self, field: &str) -> Result<usize> {
        self.optional_size(field)?
            .ok_or_else(|| self.wrong(field, "is missing"))
    }

    /// A number above 0, if the field is there. The comparison also refuses NaN.
    pub fn optional_positive(&self, field: &str) -> Result<Option<f64>> {
        let number = |value: &Value| {
            let number = value.as_f64().filter(|x| *x > 0.0);
            number.ok_or_else(|| self.wrong(field, format!("is {value}, not a positive number")))
        };
        self.get(field).map(number).transpose()
    }

    /// A number above 0 that must be there.
    pub fn positive(&self, field: &str) -> Result<f64> {
        self.optional_positive(field)?
            .ok_or_else(|| self.wrong(field, "is missing"))
    }

    /// A boolean, or `otherwise` where the field is missing.
    pub fn flag(&self, field: &str, otherwise: bool) -> Result<bool> {
        self.get(field).map_or(Ok(otherwise), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(field, format!("is {value}, not true or false")))
        })
    }

    /// A token id; the first where the file has a list, as for models with several EOS tokens.
    pub fn token(&self, field: &str) -> Result<Option<u32>> {
        let first = |value: &Value| {
            value
                .as_array()
                .map_or_else(|| Some(value.clone()), |ids| ids.first().cloned())
        };
        self.get(field)
            .and_then(first)
            .map(|value| {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| self.wrong(field, format!("is {value}, not a token id")))
            })
            .transpose()
    }

    /// Refuses a field that is there with any other value than those supported.
    pub fn only(&self, field: &str, supported: &[&str]) -> Result<()> {
        match self.get(field) {
            Some(value) if !supported.iter().any(|one| value == one) => Err(self.wrong(
                field,
                format!("is {value}; only \"{}\" is supported", supported[0]),
            )),
            _ => Ok(()),
        }
    }

    /// The object with the rotary settings and its name. transformers 5 calls it `rope_parameters`
    /// and has θ in it, earlier versions `rope_scaling`, which also counts in version 5 where there are both.
    pub fn rope_fields(&self) -> Result<Option<(&'static str, Fields<'_>)>> {
        for field in ["rope_scaling", "rope_parameters"] {
            if let Some(value) = self.get(field) {
                let json = value
                    .as_object()
                    .ok_or_else(|| self.wrong(field, "is not an object"))?;
                return Ok(Some((
                    field,
                    Fields {
                        json,
                        path: self.path,
                    },
                )));
            }
        }
        Ok(None)
    }

    /// The base of the rotary frequencies: at the top level, else among the rotary settings, else
    /// 10 000, the default of transformers.
    pub fn rope_theta(&self) -> Result<f64> {
        if self.get("rope_theta").is_some() {
            return self.positive("rope_theta");
        }
        match self.rope_fields()? {
            Some((_, rope)) if rope.get("rope_theta").is_some() => rope.positive("rope_theta"),
            _ => Ok(10_000.0),
        }
    }

    /// The scaling of rotary frequencies. Fails for the kinds that are not implemented (`linear`,
    /// `yarn`, `dynamic` and others).
    pub fn rope_scaling(&self) -> Result<Option<Llama3Scaling>> {
        let Some((field, rope)) = self.rope_fields()? else {
            return Ok(None);
        };
        // Older files have `type` in place of `rope_type`.
        let kind = rope
            .get("rope_type")
            .or_else(|| rope.get("type"))
            .and_then(Value::as_str);
        match kind {
            // In a scaling without a type the two versions of transformers see an error and no scaling.
            None if rope.get("factor").is_some() => Err(self.wrong(
                field,
                "has a `factor`, but no `rope_type` that says how it scales",
            )),
            None | Some("default") => Ok(None),
            Some("llama3") => rope.llama3().map(Some),
            Some(other) => Err(self.wrong(
                field,
                format!("has type `{other}`; only `default` and `llama3` are supported"),
            )),
        }
    }

    /// Refuses settings that change the function and are not implemented, unless they have the value with which they
    /// change nothing.
    pub fn refuse_unsupported(&self) -> Result<()> {
        let rope = ["rope_scaling", "rope_parameters"].map(|field| self.get(field));
        let rope = rope.into_iter().flatten().filter_map(Value::as_object);
        for json in rope.chain([self.json]) {
            let fields = Fields {
                json,
                path: self.path,
            };
            for (field, neutral) in UNSUPPORTED {
                if let Some(value) = fields.get(field)
                    && !neutral.is(value)
                {
                    return Err(self.wrong(field, format!("is {value}, which is not supported")));
                }
            }
        }
        Ok(())
    }

    /// Llama 3's four parameters. `high` above `low` is required, since the interpolation divides
    /// by their difference.
    fn llama3(&self) -> Result<Llama3Scaling> {
        let scaling = Llama3Scaling {
            factor: self.positive("factor")?,
            low: self.positive("low_freq_factor")?,
            high: self.positive("high_freq_factor")?,
            original_context: self.positive("original_max_position_embeddings")?,
        };
        if scaling.high > scaling.low {
            Ok(scaling)
        } else {
            Err(self.wrong("high_freq_factor", "is not above `low_freq_factor`"))
        }
    }

    /// The attention window. Mistral has one where the field is set; Qwen has a flag for it, and
    /// then windows from layer `max_window_layers` on, which is refused where there are such layers; for Llama the field
    /// means nothing.
    pub fn sliding_window(
        &self,
        architecture: Architecture,
        layers: usize,
    ) -> Result<Option<usize>> {
        match architecture {
            Architecture::Mistral => self.optional_size("sliding_window"),
            Architecture::Qwen2 | Architecture::Qwen3
                if self.flag("use_sliding_window", false)?
                    && self.get("sliding_window").is_some()
                    && self.whole_layers()? < layers =>
            {
                Err(self.wrong(
                    "use_sliding_window",
                    "is true; windows in some layers only are not supported",
                ))
            }
            _ => Ok(None),
        }
    }

    /// How many of Qwen's layers see all tokens in spite of a window; 28 in transformers where it is not said.
    fn whole_layers(&self) -> Result<usize> {
        let value = self.get("max_window_layers");
        let count = value.map_or(Some(28), Value::as_u64);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.wrong("max_window_layers", "is not a number of layers"))
    }
}
