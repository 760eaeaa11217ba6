//! Typed access to the fields of a `config.json`, with errors that name the field and the value
//! found.
//!
//! Null counts as missing, as transformers writes null for a setting that is unset.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Architecture, Error, Llama3Scaling, Result};

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

    /// A number above 0 that must be there. The comparison also refuses NaN.
    pub fn positive(&self, field: &str) -> Result<f64> {
        let value = self
            .get(field)
            .ok_or_else(|| self.wrong(field, "is missing"))?;
        let number = value.as_f64().filter(|x| *x > 0.0);
        number.ok_or_else(|| self.wrong(field, format!("is {value}, not a positive number")))
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

    /// Refuses a field that is there with any other value than the one supported.
    pub fn only(&self, field: &str, supported: &str) -> Result<()> {
        match self.get(field) {
            Some(value) if value.as_str() != Some(supported) => Err(self.wrong(
                field,
                format!("is {value}; only \"{supported}\" is supported"),
            )),
            _ => Ok(()),
        }
    }

    /// The object with the rotary settings and its name. transformers 5 calls it `rope_parameters`
    /// and has θ in it, earlier versions `rope_scaling`.
    pub fn rope_fields(&self) -> Result<Option<(&'static str, Fields<'_>)>> {
        for field in ["rope_parameters", "rope_scaling"] {
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
            None | Some("default") => Ok(None),
            Some("llama3") => rope.llama3().map(Some),
            Some(other) => Err(self.wrong(
                field,
                format!("has type `{other}`; only `default` and `llama3` are supported"),
            )),
        }
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
    /// then windows in some layers only, which is refused; for Llama the field means nothing.
    pub fn sliding_window(&self, architecture: Architecture) -> Result<Option<usize>> {
        match architecture {
            Architecture::Mistral => self.optional_size("sliding_window"),
            Architecture::Qwen2 | Architecture::Qwen3
                if self.flag("use_sliding_window", false)? =>
            {
                Err(self.wrong(
                    "use_sliding_window",
                    "is true; windows in some layers only are not supported",
                ))
            }
            _ => Ok(None),
        }
    }
}
