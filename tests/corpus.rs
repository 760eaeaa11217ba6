//! Every hostile file is refused, and every good one is read; none makes a reader panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use compress_checkpoint::parse_header;
use compress_core::{Plan, Survey, Truncate, testing::Toy};
use compress_gguf::{Gguf, huggingface, tokenizer};

/// Reads every file of a folder, expecting `read` to take those called good and refuse the others.
fn check(folder: &str, read: impl Fn(&[u8]) -> Result<(), String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/corpus")
        .join(folder);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let outcome = read(&fs::read(&path).unwrap());
        assert_eq!(outcome.is_ok(), name == "good", "{name}: {outcome:?}");
        count += 1;
    }
    assert!(count > 10, "the corpus has only {count} files");
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
        let gguf = Gguf::parse(bytes).map_err(|e| e.to_string())?;
        for name in gguf.tensors().keys() {
            huggingface::values(&gguf, bytes, name).map_err(|e| e.to_string())?;
        }
        // Files that are wrong in their container have no more than one key.
        if gguf.metadata().len() > 1 {
            huggingface::config(&gguf).map_err(|e| e.to_string())?;
            tokenizer(&gguf).map_err(|e| e.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn hostile_plans_are_refused() {
    let toy = Toy::new(1);
    check("plan", |bytes| {
        let plan: Plan<Truncate> = Plan::parse(bytes).map_err(|e| e.to_string())?;
        plan.check(&Survey::new(&toy, |_| true))
            .map_err(|e| e.to_string())
    });
}
