//! Endpoint, cache, token and offline mode, from the environment variables of `huggingface_hub`.
//!
//! | setting | read from, the first that is set |
//! |---|---|
//! | `endpoint` | `HF_ENDPOINT`, `https://huggingface.co` |
//! | `cache` | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`/hub |
//! | `token` | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, the file `HF_TOKEN_PATH`, the file `HF_HOME`/token |
//! | `offline` | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`: 1, on, yes or true |
//!
//! `HF_HOME` is `XDG_CACHE_HOME`/huggingface or `~/.cache/huggingface` where it is not set. A
//! variable that is empty counts as not set.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use crate::Error;

/// The public hub.
const ENDPOINT: &str = "https://huggingface.co";

/// Endpoint, cache and token of the hub.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address of the hub or of a mirror, without a slash at its end.
    pub endpoint: String,
    /// The directory of the `models--org--name` folders.
    pub cache: PathBuf,
    /// The access token, if there is one. It is sent to `endpoint` and to no other host.
    pub token: Option<String>,
    /// The variable or the file that the token was read from.
    pub token_from: Option<String>,
    /// Whether the network is not to be used.
    pub offline: bool,
}

impl Settings {
    /// Settings from the environment of the process. Fails if neither a variable nor a home
    /// directory determines the cache.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// Settings from the variables that `lookup` knows; reads the token's file, if no variable has
    /// the token. A token file that cannot be read counts as none.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let named = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), lookup(name)?)))
                .find(|(_, value)| !value.is_empty())
        };
        let first = |names: &[&str]| named(names).map(|(_, value)| value);
        // The second is the home directory on Windows.
        let user = first(&["HOME", "USERPROFILE"]).map(PathBuf::from);
        let path = |names: &[&str]| first(names).map(|value| expand(&value, user.as_deref()));

        let base =
            path(&["XDG_CACHE_HOME"]).or_else(|| user.as_ref().map(|user| user.join(".cache")));
        let home = path(&["HF_HOME"]).or_else(|| base.map(|base| base.join("huggingface")));
        let under_home = |name: &str| home.as_ref().map(|home| home.join(name));

        // A token in the environment wins over one that `huggingface-cli login` has stored.
        let token_file = path(&["HF_TOKEN_PATH"]).or_else(|| under_home("token"));
        let stored = || {
            let file = token_file?;
            let token = fs::read_to_string(&file).ok()?;
            Some((file.display().to_string(), token))
        };
        let (token_from, token) = named(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
            .or_else(stored)
            .map(|(from, token)| (from, token.trim().to_owned()))
            .filter(|(_, token)| !token.is_empty())
            .unzip();
        let endpoint = first(&["HF_ENDPOINT"]).unwrap_or_else(|| ENDPOINT.to_owned());
        let cache = path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).or_else(|| under_home("hub"));
        Ok(Self {
            // Addresses are built by appending a path that begins with a slash.
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: cache.ok_or(Error::NoCache)?,
            token,
            token_from,
            offline: first(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
                .is_some_and(|value| is_true(&value)),
        })
    }
}

/// Prints dots in place of the token, so that it cannot reach a log.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("token_from", &self.token_from)
            .field("offline", &self.offline)
            .finish()
    }
}

/// Expands `~/` at the start of a path, which a shell leaves alone within quotes.
fn expand(value: &str, user: Option<&Path>) -> PathBuf {
    match (value.strip_prefix("~/"), user) {
        (Some(rest), Some(user)) => user.join(rest),
        _ => PathBuf::from(value),
    }
}

/// Whether a variable is set to what `huggingface_hub` takes for true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Settings::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_home_directory_is_enough() {
        let settings = settings(&[("HOME", "/nowhere")]).unwrap();
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert_eq!((settings.token, settings.offline), (None, false));
    }

    #[test]
    fn the_more_special_variable_says_where_the_cache_is() {
        let all = [
            ("HF_HUB_CACHE", "~/a", "/u/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b", "/b"),
            ("HF_HOME", "/c", "/c/hub"),
            ("XDG_CACHE_HOME", "/d", "/d/huggingface/hub"),
            ("HOME", "/u", "/u/.cache/huggingface/hub"),
        ];
        for skip in 0..all.len() {
            let variables: Vec<_> = all[skip..]
                .iter()
                .map(|(name, value, _)| (*name, *value))
                .collect();
            assert_eq!(settings(&variables).unwrap().cache, Path::new(all[skip].2));
        }
    }

    #[test]
    fn the_token_is_the_variable_or_else_the_file() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), " hf_file\n").unwrap();
        let home = home.path().to_str().unwrap();
        let token = |value| {
            let settings = settings(&[("HF_HOME", home), ("HF_TOKEN", value)]).unwrap();
            [settings.token, settings.token_from]
        };
        let variable = token("hf_variable\n");
        assert_eq!(
            variable,
            [Some("hf_variable".into()), Some("HF_TOKEN".into())]
        );
        let [file, from] = token("");
        assert_eq!(file.as_deref(), Some("hf_file"));
        assert_eq!(from.as_deref(), Path::new(home).join("token").to_str());
    }

    #[test]
    fn an_endpoint_loses_its_slash_and_offline_is_read_as_python_reads_it() {
        let read = |offline| {
            settings(&[
                ("HF_HOME", "/h"),
                ("HF_ENDPOINT", "http://mirror/"),
                ("HF_HUB_OFFLINE", offline),
            ])
        };
        assert_eq!(read("1").unwrap().endpoint, "http://mirror");
        assert!(
            ["1", "ON", "True", "yes"]
                .iter()
                .all(|yes| read(yes).unwrap().offline)
        );
        assert!(["", "0", "no"].iter().all(|no| !read(no).unwrap().offline));
    }

    #[test]
    fn without_a_home_there_is_no_cache() {
        assert!(matches!(
            settings(&[("HF_TOKEN", "t")]),
            Err(Error::NoCache)
        ));
    }

    #[test]
    fn a_token_is_never_printed() {
        let shown = format!(
            "{:?}",
            settings(&[("HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap()
        );
        assert!(!shown.contains("hf_secret"));
    }
}
