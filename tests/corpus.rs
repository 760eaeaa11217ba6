//! Every hostile file is refused, and every good one is read; none makes a reader panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use compress_checkpoint::{Checkpoint, parse_header};
use compress_core::{Plan, Survey, Truncate, testing::Toy};
use compress_gguf::{Gguf, huggingface, tokenizer};
use serde_json::Value;

use crate::common::{copy, edit_config};

/// Reads every file of a folder, expecting `read` to take those called good and to refuse the others, and compares what
/// it says of each with the snapshot.
fn check(folder: &str, read: impl Fn(&[u8]) -> Result<(), String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/corpus")
        .join(folder);
    let mut told = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let outcome = read(&fs::read(&path).unwrap());
        let good = name.starts_with("good");
        assert_eq!(outcome.is_ok(), good, "{name}: {outcome:?}");
        let first = outcome.err().unwrap_or_else(|| "ok".into());
        told.insert(name, first.lines().next().unwrap_or_default().to_owned());
    }
    assert!(told.len() > 10, "the corpus has only {} files", told.len());
    let lines = told
        .into_iter()
        .map(|(name, line)| format!("{name}: {line}"));
    let lines = lines.collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(format!("corpus_{folder}"), lines);
}

/// An error with all that caused it, as the program prints it.
fn chain(error: impl Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[test]
fn hostile_safetensors_files_are_refused() {
    check("safetensors", |bytes| {
        let tensors = parse_header(bytes)?;
        // A tensor of no numbers is a good tensor, but none of a network.
        let named = tensors.into_iter().find(|(_, tensor)| tensor.bytes() == 0);
        named.map_or(Ok(()), |(name, _)| Err(name))
    });
}

#[test]
fn hostile_gguf_files_are_refused() {
    check("gguf", |bytes| {
        let gguf = Gguf::parse(bytes).map_err(chain)?;
        for name in gguf.tensors().keys() {
            huggingface::values(&gguf, bytes, name).map_err(chain)?;
        }
        // Files that are wrong in their container have no more than one key.
        if gguf.metadata().len() > 1 {
            huggingface::config(&gguf).map_err(chain)?;
            tokenizer(&gguf).map_err(chain)?;
        }
        Ok(())
    });
}

#[test]
fn hostile_plans_are_refused() {
    let toy = Toy::new(1);
    check("plan", |bytes| {
        let plan: Plan<Truncate> = Plan::parse(bytes).map_err(chain)?;
        plan.check(&Survey::new(&toy, |_| true)).map_err(chain)
    });
}

/// A network with other settings and files than its own, as `make.py` describes them.
#[test]
fn odd_models_are_refused_or_read() {
    check("model", |bytes| {
        let change: Value = serde_json::from_slice(bytes).unwrap();
        let model = copy(&format!("networks/{}", change["network"].as_str().unwrap()));
        edit_config(model.path(), |json| {
            let settings = change["config"].as_object().unwrap().clone();
            json.as_object_mut().unwrap().extend(settings);
        });
        let files = change["files"].as_object().unwrap();
        for (name, contents) in files {
            let path = model.path().join(name);
            match contents {
                Value::Null => fs::remove_file(path).unwrap(),
                Value::String(text) => fs::write(path, text).unwrap(),
                json => fs::write(path, json.to_string()).unwrap(),
            }
        }
        // A tokenizer is only wanted where the case is about one.
        let of_tokenizer = files.keys().any(|name| name.starts_with("tokenizer"));
        let read = Checkpoint::open(model.path()).and_then(|model| {
            model.config().rope()?;
            of_tokenizer.then(|| model.tokenizer()).transpose()
        });
        let place = model.path().to_str().unwrap();
        read.map(drop).map_err(|e| chain(e).replace(place, "MODEL"))
    });
}
