//! Which setting is for a module, as compressed-tensors chooses among the targets of all groups.
//!
//! A target is the name of a module, `re:` and a pattern that its name starts with, or the name of
//! a class. A module gets the setting of its exact name; else of the first pattern that matches,
//! patterns in the order of their text; else of its class. One that `ignore` matches gets none.

use std::collections::BTreeMap;

use compress_core::Site;
use regex::Regex;

use crate::names;

/// What Python and the crate `regex` both read in a pattern, and differently: nested sets and
/// possessive repetition.
const DIFFERENT: [&str; 8] = ["[[", "&&", "--", "~~", "*+", "++", "?+", "}+"];

/// The start of a target that is a pattern.
const PATTERN: &str = "re:";

/// Settings by target, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Targets<T> {
    settings: Vec<(Target, T)>,
    ignored: Vec<Target>,
}

#[derive(Clone, Debug)]
enum Target {
    /// The name of a module or of a class.
    Name(String),
    /// A pattern, anchored at the start.
    Pattern(Regex),
}

impl<T> Default for Targets<T> {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

impl<T: Copy> Targets<T> {
    /// From the setting of each target and the targets to ignore. Fails, in words, for a pattern
    /// that cannot be read as Python reads it.
    pub fn new(
        settings: BTreeMap<String, T>,
        ignored: impl IntoIterator<Item = String>,
    ) -> Result<Self, String> {
        let settings = settings.into_iter();
        let settings = settings.map(|(target, setting)| Ok((Target::parse(target)?, setting)));
        let ignored = ignored.into_iter().map(Target::parse);
        Ok(Self {
            settings: settings.collect::<Result<_, String>>()?,
            ignored: ignored.collect::<Result<_, String>>()?,
        })
    }

    /// The setting of a module.
    pub fn of(&self, module: &str) -> Option<T> {
        let classes = classes(module);
        let of_class = |target: &Target| classes.iter().any(|class| target.names(class));
        let mut ignored = self.ignored.iter();
        if ignored.any(|target| target.matches(module) || of_class(target)) {
            return None;
        }
        let first = |fits: &dyn Fn(&Target) -> bool| {
            let mut settings = self.settings.iter();
            let found = settings.find(|(target, _)| fits(target));
            found.map(|(_, setting)| *setting)
        };
        first(&|target| target.names(module))
            .or_else(|| first(&|target| target.matches(module)))
            .or_else(|| first(&of_class))
    }
}

impl Target {
    fn parse(text: String) -> Result<Self, String> {
        let Some(pattern) = text.strip_prefix(PATTERN) else {
            return Ok(Self::Name(text));
        };
        let refused = || format!("has the target `{text}`, a pattern that is not supported");
        if DIFFERENT.iter().any(|it| pattern.contains(it)) {
            return Err(refused());
        }
        // As Python's `re.match`: from the start of the name, and not necessarily to its end.
        let anchored = format!("\\A(?:{pattern})");
        let pattern = Regex::new(&anchored).map_err(|_| refused())?;
        Ok(Self::Pattern(pattern))
    }

    /// Whether this is the name of a module or class.
    fn names(&self, text: &str) -> bool {
        matches!(self, Self::Name(name) if name == text)
    }

    /// Whether this is the name of a module, or a pattern that matches it.
    fn matches(&self, module: &str) -> bool {
        match self {
            Self::Name(name) => name == module,
            Self::Pattern(pattern) => pattern.is_match(module),
        }
    }
}

/// The classes that a module belongs to: PyTorch's, of which those of transformers are.
fn classes(module: &str) -> [&'static str; 2] {
    let class = if module == names::module(Site::Embedding) {
        "Embedding"
    } else {
        "Linear"
    };
    [class, "Module"]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what `compressed_tensors` 0.20 says about the same targets.
    #[test]
    fn a_module_gets_the_setting_of_the_target_that_says_most_about_it() {
        let query = "model.layers.0.self_attn.q_proj";
        let settings = [
            ("Linear", 0),
            ("re:.*q_proj", 1),
            ("re:model", 2),
            (query, 3),
            ("Embedding", 4),
            ("re:layers", 5),
        ];
        let chosen = |left_out: &[&str], module: &str, ignored: &[&str]| {
            let settings = settings.iter().filter(|(it, _)| !left_out.contains(it));
            let settings = settings.map(|(target, it)| ((*target).to_owned(), *it));
            let ignored = ignored.iter().map(|it| (*it).to_owned());
            Targets::new(settings.collect(), ignored)
                .unwrap()
                .of(module)
        };
        assert_eq!(chosen(&[], query, &[]), Some(3));
        assert_eq!(chosen(&[query], query, &[]), Some(1));
        assert_eq!(chosen(&[query, "re:.*q_proj"], query, &[]), Some(2));
        // A pattern that matches elsewhere than at the start does not match.
        let patterns = [query, "re:.*q_proj", "re:model"];
        assert_eq!(chosen(&patterns, query, &[]), Some(0));
        assert_eq!(chosen(&[], "lm_head", &[]), Some(0));
        assert_eq!(chosen(&patterns, "model.embed_tokens", &[]), Some(4));
        for ignored in [query, "re:.*proj$", "Linear", "Module"] {
            assert_eq!(chosen(&[], query, &[ignored]), None, "{ignored}");
        }
        for ignored in ["re:q_proj", "q_proj", "Embedding"] {
            assert_eq!(chosen(&[], query, &[ignored]), Some(3), "{ignored}");
        }
    }

    #[test]
    fn a_pattern_that_python_reads_otherwise_is_refused_by_name() {
        for pattern in ["re:(?!lm).*", "re:(", "re:[[a]b]", "re:a*+b", "re:[a&&b]"] {
            let refused = Targets::new([(pattern.to_owned(), 0)].into(), []);
            assert!(refused.unwrap_err().contains(pattern));
            let refused = Targets::<u8>::new(BTreeMap::new(), [pattern.to_owned()]);
            assert!(refused.is_err());
        }
    }
}
