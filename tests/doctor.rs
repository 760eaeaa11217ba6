//! `compress doctor`: what it says of any machine, and what it never says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use common::{command, folder, success};
use serde_json::Value;

/// What each section has to say.
const SECTIONS: [(&str, &[&str]); 6] = [
    ("program", &["version", "features", "burn"]),
    (
        "processor",
        &["name", "threads_used", "vector_instructions"],
    ),
    ("memory", &["total", "free", "memory_by_default"]),
    (
        "devices",
        &["adapters", "device_auto", "because", "autotune"],
    ),
    ("caches", &["evidence", "passing", "hub"]),
    ("hub", &["endpoint", "offline", "token_from"]),
];

fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = command();
    command.arg("doctor").args(arguments);
    command.envs(variables.iter().copied());
    success(&command.output().unwrap())
}

#[test]
fn every_section_is_there_with_its_facts() {
    let table = doctor(&[], &[]);
    let json: Value = serde_json::from_str(&doctor(&["--json"], &[])).unwrap();
    for (section, facts) in SECTIONS {
        assert!(
            table.contains(&format!("| {section}")),
            "{section}: {table}"
        );
        for fact in facts {
            assert!(
                json[section].get(fact).is_some(),
                "{section}.{fact}: {json}"
            );
            assert!(table.contains(&fact.replace('_', " ")), "{fact}: {table}");
        }
    }
    let [total, default] = ["total", "memory_by_default"].map(|fact| json["memory"][fact].as_u64());
    assert!(0 < default.unwrap() && default < total);
    assert_eq!(json["program"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn no_token_is_printed() {
    let home = folder();
    let home = home.path().to_str().unwrap();
    std::fs::write(format!("{home}/token"), "hf_in_a_file").unwrap();
    for (variables, from) in [
        (vec![("HF_TOKEN", "hf_secret")], "HF_TOKEN"),
        (vec![("HF_TOKEN", "")], "token"),
    ] {
        let all = [
            variables,
            vec![
                ("HF_HOME", home),
                ("HUGGING_FACE_HUB_TOKEN", ""),
                ("HF_ENDPOINT", "https://me:hf_password@hub.example"),
            ],
        ]
        .concat();
        for arguments in [&[][..], &["--json"]] {
            let printed = doctor(arguments, &all);
            for secret in ["hf_secret", "hf_in_a_file", "hf_password"] {
                assert!(!printed.contains(secret), "{printed}");
            }
            assert!(printed.contains(from) && printed.contains("hub.example"));
        }
    }
}

#[test]
fn without_a_home_it_says_what_it_knows_and_makes_nothing() {
    let root = folder();
    let mut command = command();
    command.args(["doctor", "--json"]);
    for variable in [
        "HOME",
        "USERPROFILE",
        "XDG_CACHE_HOME",
        "LOCALAPPDATA",
        "HF_HOME",
    ] {
        command.env_remove(variable);
    }
    for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        command.env_remove(variable);
    }
    let json: Value = serde_json::from_str(&success(&command.output().unwrap())).unwrap();
    assert!(json["caches"]["evidence"].is_null() && json["hub"]["endpoint"].is_null());

    let cache = root.path().join("cache");
    let place = cache.to_str().unwrap();
    let json: Value =
        serde_json::from_str(&doctor(&["--json"], &[("XDG_CACHE_HOME", place)])).unwrap();
    assert_eq!(json["caches"]["evidence"]["exists"], false);
    // A GPU's driver may keep its shaders there.
    assert!(!cache.join("compress").exists());
}
