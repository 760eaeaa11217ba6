//! `compress doctor`: what the program finds on this machine, for a look before a long run and for reports of errors.
//!
//! Nothing here fails: a fact that cannot be found out is `unknown` in the tables and null in JSON. No secret is
//! printed: of the hub's token only where it was read, of an endpoint not what is before its `@`.

mod folder;
mod machine;

use std::{env, path::Path};

use anyhow::Result;
use comfy_table::CellAlignment;
use compress_hub::Settings;
use serde_json::{Map, Value, json};

use crate::{Outcome, args::Doctor, cache, memory, memory::Memory, report};

/// Version of burn, as the workspace's `Cargo.toml` pins it.
const BURN: &str = "0.22.1";

/// Prints a table for each concern, or all of it as one JSON object.
pub fn run(job: &Doctor) -> Result<Outcome> {
    let sections = [
        ("program", program()),
        ("processor", machine::processor()),
        ("memory", memory()),
        ("devices", machine::devices()),
        ("caches", caches()),
        ("hub", hub()),
    ];
    if job.json {
        let told: Map<String, Value> = sections
            .into_iter()
            .map(|(name, facts)| {
                let facts = facts.into_iter().map(|fact| (fact.name, fact.value));
                (name.to_owned(), Value::Object(facts.collect()))
            })
            .collect();
        report::print(Value::Object(told))?;
        return Ok(Outcome::Kept);
    }
    for (name, facts) in sections {
        let mut table = report::plain([name, ""]);
        for fact in facts {
            table.add_row([fact.name.replace('_', " "), fact.words]);
        }
        // Words, not figures.
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Left);
        }
        report::print(format_args!("{table}\n"))?;
    }
    Ok(Outcome::Kept)
}

/// Something that was found out, or not.
struct Fact {
    /// As JSON has it; tables have spaces in it.
    name: String,
    /// For people.
    words: String,
    /// For programs.
    value: Value,
}

impl Fact {
    fn new(name: &str, words: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            name: name.to_owned(),
            words: words.into(),
            value: value.into(),
        }
    }

    /// A text; none where it is not known.
    fn text(name: &str, text: Option<String>) -> Self {
        let words = text.clone().unwrap_or_else(unknown);
        Self::new(name, words, text)
    }

    /// A number of things.
    fn count(name: &str, count: Option<usize>) -> Self {
        let words = count.map_or_else(unknown, report::grouped);
        Self::new(name, words, count)
    }

    /// A number of bytes. The system says 0 where it does not know.
    fn bytes(name: &str, bytes: u64) -> Self {
        let known = (bytes > 0).then_some(bytes);
        let words = known.map_or_else(unknown, |bytes| report::size(bytes as usize));
        Self::new(name, words, known)
    }

    /// Several words.
    fn list(name: &str, words: &[&str]) -> Self {
        let shown = if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        };
        Self::new(name, shown, words)
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn program() -> Vec<Fact> {
    let features = [
        ("wgpu", cfg!(feature = "wgpu")),
        ("ndarray", cfg!(feature = "ndarray")),
    ];
    let built: Vec<&str> = features
        .into_iter()
        .filter_map(|(name, built)| built.then_some(name))
        .collect();
    let made_for = format!("{} on {}", env::consts::ARCH, env::consts::OS);
    vec![
        Fact::text("version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        Fact::text("built_for", Some(made_for)),
        Fact::list("features", &built),
        Fact::text("burn", Some(BURN.to_owned())),
    ]
}

fn memory() -> Vec<Fact> {
    vec![
        Fact::bytes("total", memory::total()),
        Fact::bytes("free", memory::free()),
        Fact::bytes("memory_by_default", Memory::new(None).bytes() as u64),
    ]
}

/// The folders that things are kept in between runs.
fn caches() -> Vec<Fact> {
    let mut facts = Vec::new();
    for name in ["evidence", "passing"] {
        facts.push(match cache::place(name) {
            Ok(folder) => folder_fact(name, &folder),
            Err(_) => Fact::text(name, None),
        });
    }
    facts.push(match Settings::from_env() {
        Ok(settings) => folder_fact("hub", &settings.cache),
        Err(_) => Fact::text("hub", None),
    });
    facts
}

fn folder_fact(name: &str, folder: &Path) -> Fact {
    let bytes = folder::bytes(folder);
    let size = bytes.map_or_else(
        || "not there".to_owned(),
        |bytes| report::size(bytes as usize),
    );
    let words = format!("{}, {size}", folder.display());
    let path = folder.display().to_string();
    let value = json!({ "path": path, "exists": bytes.is_some(), "bytes": bytes });
    Fact::new(name, words, value)
}

fn hub() -> Vec<Fact> {
    let Ok(settings) = Settings::from_env() else {
        let names = ["endpoint", "offline", "token_from"];
        return names.map(|name| Fact::text(name, None)).into();
    };
    let offline = if settings.offline { "yes" } else { "no" };
    let from = settings.token_from;
    let words = from.clone().unwrap_or_else(|| "no token is set".to_owned());
    vec![
        Fact::text("endpoint", Some(without_password(&settings.endpoint))),
        Fact::new("offline", offline, settings.offline),
        Fact::new("token_from", words, from),
    ]
}

/// An address without the user and password that may stand before its host.
fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once('@') {
        Some((secret, _)) => format!("{scheme}://…{}", &rest[secret.len()..]),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_is_the_one_that_is_pinned() {
        let pinned = format!("burn = {{ version = \"={BURN}\"");
        assert!(include_str!("../../../../Cargo.toml").contains(&pinned));
    }

    #[test]
    fn of_an_address_the_password_is_left_out() {
        for (address, shown) in [
            ("https://hub.example", "https://hub.example"),
            ("https://me:pass@hub.example/a", "https://…@hub.example/a"),
            ("https://hub.example/a@b", "https://hub.example/a@b"),
        ] {
            assert_eq!(without_password(address), shown);
        }
    }
}
