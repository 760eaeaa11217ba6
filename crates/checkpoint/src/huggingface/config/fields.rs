//! Typed access to the fields of a `config.json`, with errors that name the field and the value
//! found.
//!
//! Null counts as missing, as transformers writes null for a setting that is unset.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    CAUSAL,
    keys::{self, Neutral},
};
use crate::{Architecture, Error, Result, huggingface::settings::shortened};

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

    /// What the first of `architectures` puts on the decoder of the family; `ForCausalLM` where it is not said.
    ///
    /// Fails for a class of another family, which could be anything, unless its name says that it predicts tokens.
    pub fn class(&self, family: Architecture) -> Result<String> {
        let first = self.get("architectures").and_then(|names| names.get(0));
        let Some(named) = first.and_then(Value::as_str) else {
            return Ok(CAUSAL.into());
        };
        // The classes of outputs with low-rank pairs.
        let plain = named.strip_prefix("LowRank").unwrap_or(named);
        match plain.strip_prefix(family.class()) {
            Some(class) if !class.is_empty() => Ok(class.into()),
            _ if named.ends_with(CAUSAL) => Ok(CAUSAL.into()),
            _ => Err(self.wrong(
                "architectures",
                format!("names {named}, which is none of {family}'s classes"),
            )),
        }
    }

    /// Numbers per head: as said, or an equal share of the residual stream.
    pub fn head_size(&self, family: Architecture, hidden: usize, heads: usize) -> Result<usize> {
        match self.optional_size("head_dim")? {
            Some(size) => Ok(size),
            // transformers' default of this family, whatever its width.
            None if family == Architecture::Qwen3 => Ok(128),
            None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => {
                let problem = format!("{hidden} is no multiple of the {heads} heads");
                Err(self.wrong("hidden_size", problem))
            }
        }
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

    /// Refuses settings that change the function and are not implemented, unless they have the value with which they
    /// change nothing.
    pub fn refuse(&self, rows: &[(&str, Neutral)]) -> Result<()> {
        for (field, neutral) in rows {
            if let Some(value) = self.get(field)
                && !neutral.is(value)
            {
                return Err(self.wrong(field, format!("is {value}, which is not supported")));
            }
        }
        Ok(())
    }

    /// Refuses settings of which nothing is known, unless they are off.
    pub fn refuse_unknown(&self) -> Result<()> {
        let mut fields = self.json.iter();
        match fields.find(|(name, value)| keys::is_unknown(name, value)) {
            None => Ok(()),
            Some((name, value)) => Err(self.wrong(
                name,
                format!(
                    "is {}, and nothing is known of this setting, which could change what the model computes; take it out of config.json if it does not",
                    shortened(&value.to_string())
                ),
            )),
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
            // Every layer is behind the whole ones.
            Architecture::Qwen2 | Architecture::Qwen3
                if self.flag("use_sliding_window", false)? && self.whole_layers()? == 0 =>
            {
                self.optional_size("sliding_window")
            }
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
