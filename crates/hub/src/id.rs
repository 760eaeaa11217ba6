//! The id of a model on the hub, parsed strictly.
//!
//! ```text
//! org/name [@revision] [:file.gguf]     revision: a branch, tag or commit, main by default
//! ```
//!
//! A mistyped path of a local model often looks like an id. The rules are strict so that it is an
//! error here, and not a request to the hub.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::names::is_safe;

/// The revision of an id that gives none.
const MAIN: &str = "main";

/// Endings that mark a text as the path of a local file, which is missing.
const FILE_ENDINGS: [&str; 5] = [".safetensors", ".gguf", ".json", ".bin", ".git"];

/// A model on the hub: `org/name`, `org/name@revision` or `org/name:file.gguf`.
///
/// ```
/// use compress_hub::ModelId;
///
/// let id: ModelId = "Qwen/Qwen3-0.6B@refs/pr/1".parse()?;
/// assert_eq!((id.repository(), id.revision(), id.file()), ("Qwen/Qwen3-0.6B", "refs/pr/1", None));
/// assert!("./models/Qwen".parse::<ModelId>().is_err());
/// # Ok::<(), compress_hub::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    repository: String,
    revision: String,
    file: Option<String>,
}

impl ModelId {
    /// `org/name`, without revision and file.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit; `main` by default.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The path of the GGUF file within the repository, if the id names one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::BadId {
            text: text.to_owned(),
            reason,
        };
        // The file first: its name may contain an `@`, a revision no `:`.
        let (rest, file) = split(text, ':');
        let (repository, revision) = split(rest, '@');
        check_repository(repository).map_err(bad)?;
        if !revision.is_none_or(is_revision) {
            return Err(bad(
                "the revision after `@` is not the name of a branch, tag or commit",
            ));
        }
        if !file.is_none_or(|file| is_safe(file) && file.to_ascii_lowercase().ends_with(".gguf")) {
            return Err(bad("what follows `:` is not the name of a GGUF file"));
        }
        Ok(Self {
            repository: repository.to_owned(),
            revision: revision.unwrap_or(MAIN).to_owned(),
            file: file.map(str::to_owned),
        })
    }
}

/// Prints the id in the form in which it is parsed; `@main` is left out.
impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

/// Splits at the first occurrence of a separator, if there is one.
fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at)
        .map_or((text, None), |(head, tail)| (head, Some(tail)))
}

/// Checks `org/name`; on failure returns the broken rule.
fn check_repository(repository: &str) -> Result<(), &'static str> {
    let Some((org, name)) = repository
        .split_once('/')
        .filter(|(_, name)| !name.contains('/'))
    else {
        return Err("it has not exactly one `/`");
    };
    if !is_label(org) || !is_label(name) {
        return Err(
            "a name is of letters, digits, `-`, `_` and `.`, starts and ends with none of `-` and `.`, \
                    and has no `--` or `..`",
        );
    }
    // `dir/model.gguf` has the form of an id.
    if FILE_ENDINGS
        .iter()
        .any(|ending| name.to_ascii_lowercase().ends_with(ending))
    {
        return Err("it names a file, and there is no such file");
    }
    Ok(())
}

/// The hub's rule for names. Without `--` the folder `models--org--name` in the cache is
/// unambiguous too.
fn is_label(text: &str) -> bool {
    let edge = |c| c == '-' || c == '.';
    (1..=96).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !text.starts_with(edge)
        && !text.ends_with(edge)
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether a text can be a branch, tag or commit. It becomes a path below `refs`, so `..` is
/// excluded.
fn is_revision(text: &str) -> bool {
    is_safe(text)
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./+".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_was_written() {
        for text in [
            "org/name",
            "a_b/C.d-3",
            "org/name@v1.0",
            "org/name@refs/pr/1",
            "o/n:x.gguf",
            "o/n@r:Q4/x-1.GGUF",
        ] {
            assert_eq!(text.parse::<ModelId>().unwrap().to_string(), text);
        }
        assert_eq!(
            "org/name@main".parse::<ModelId>().unwrap().to_string(),
            "org/name"
        );
    }

    #[test]
    fn what_could_be_a_local_path_is_no_id() {
        let paths = [
            "name",
            "./name",
            "../name",
            "/org/name",
            "a/b/c",
            "org/",
            "/name",
            "~/name",
            "org/..",
            "org/a b",
        ];
        let files = [
            "dir/model.safetensors",
            "dir/model.gguf",
            "dir/config.json",
            r"C:\models\a",
            r"org\name",
        ];
        for text in paths.iter().chain(&files) {
            assert!(
                matches!(text.parse::<ModelId>(), Err(Error::BadId { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn what_would_leave_the_cache_is_no_id() {
        for text in [
            "",
            "/",
            "o..p/n",
            "a--b/n",
            "o/n@",
            "o/n@../x",
            "o/n@a//b",
            "o/n:",
            "o/n:../x.gguf",
            "o/n:x.bin",
        ] {
            assert!(text.parse::<ModelId>().is_err(), "{text}");
        }
    }
}
