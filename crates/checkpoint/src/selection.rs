//! Selection of sites by role, by range of layers or by regular expression, as `--only` and
//! `--skip` take it.
//!
//! ```text
//! query        this role in every layer
//! 3, 0-2       every role of these layers
//! mlp          a regular expression, searched for in the module's name
//! ```

use std::{fmt, ops::RangeInclusive, str::FromStr};

use compress_core::{Error, Result, Role, Site};
use regex::Regex;

use crate::names;

/// One pattern of sites. A text is read as a role first, then as a range of layers, then as an
/// expression.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// `query`: this role in every layer.
    Role(Role),
    /// `3` or `0-2`: every role in these layers, counted from 0, both ends included.
    Layers(RangeInclusive<usize>),
    /// Anything else: a regular expression, unanchored, searched for in names such as
    /// `model.layers.3.self_attn.q_proj`.
    Module(Regex),
}

impl Pattern {
    /// Whether the pattern selects this site. Embedding and head have no role and no layer: only an
    /// expression selects them.
    #[must_use]
    pub fn matches(&self, site: Site) -> bool {
        match self {
            Self::Role(role) => site.role() == Some(*role),
            Self::Layers(range) => site.layer().is_some_and(|layer| range.contains(&layer)),
            Self::Module(regex) => regex.is_match(&names::module(site)),
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "a role, a layer range such as 0-2, or a regular expression";
        if let Ok(role) = text.parse() {
            return Ok(Self::Role(role));
        }
        // A single number is a range with equal ends.
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
            return if first <= last {
                Ok(Self::Layers(first..=last))
            } else {
                Err(Error::Parse {
                    text: text.into(),
                    expected: "a layer range, whose end must not lie before its start",
                })
            };
        }
        // The empty expression would match every module.
        if text.is_empty() {
            return Err(Error::Parse {
                text: text.into(),
                expected,
            });
        }
        Regex::new(text)
            .map(Self::Module)
            .map_err(|_| Error::Parse {
                text: text.into(),
                expected,
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "{role}"),
            Self::Layers(range) => write!(f, "{}-{}", range.start(), range.end()),
            Self::Module(regex) => write!(f, "{regex}"),
        }
    }
}

/// The sites that a run may change: those that match some `only` pattern (all, where there is none)
/// and no `skip` pattern.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Patterns of which at least one must match; all sites pass where it is empty.
    pub only: Vec<Pattern>,
    /// Patterns of which none may match.
    pub skip: Vec<Pattern>,
}

impl Selection {
    /// Whether a site is selected; `skip` wins over `only`.
    #[must_use]
    pub fn contains(&self, site: Site) -> bool {
        let named = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(site));
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(only: &[&str], skip: &[&str]) -> Vec<String> {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let selection = Selection {
            only: parse(only),
            skip: parse(skip),
        };
        Site::blocks(4)
            .filter(|&site| selection.contains(site))
            .map(|site| site.to_string())
            .collect()
    }

    #[test]
    fn roles_layers_and_expressions_choose_sites() {
        assert_eq!(chosen(&["query", "key"], &["0-2"]), ["3.query", "3.key"]);
        assert_eq!(chosen(&[r"layers\.1\.mlp"], &["down"]), ["1.gate", "1.up"]);
        assert_eq!(
            chosen(&["2"], &["mlp", "value"]),
            ["2.query", "2.key", "2.output"]
        );
        assert_eq!(chosen(&[], &[]).len(), 28);
    }

    #[test]
    fn what_names_no_sites_is_an_error() {
        for text in ["3-1", "", "(", "*"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
