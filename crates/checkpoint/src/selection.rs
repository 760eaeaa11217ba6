//! Choosing sites by role, layer range or regular expression.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use compress_core::{Error, Result, Role, Site};
use regex::Regex;

use crate::names;

/// One way to name some of the sites.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// `query`: this role in every layer.
    Role(Role),
    /// `3` or `0-2`: every role in these layers, both ends included.
    Layers(RangeInclusive<usize>),
    /// Anything else: a regular expression searched for in the module's name.
    Module(Regex),
}

impl Pattern {
    /// Whether the pattern names this site.
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

/// The sites that a run touches: those that some `only` names (all, where there is none), less those
/// that some `skip` names.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Patterns of which one must match.
    pub only: Vec<Pattern>,
    /// Patterns of which none may match.
    pub skip: Vec<Pattern>,
}

impl Selection {
    /// Whether the selection has this site.
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
