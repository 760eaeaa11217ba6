//! Bad input gets an error that names the file or tensor, exit status 2, and no output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
#[path = "../common/mod.rs"]
mod common;
mod config;
mod files;
mod requests;

use std::{fs, path::Path};

use common::{compress, copy, edit_config, folder, text};
use serde_json::Value;
use tempfile::TempDir;

/// Cuts the model and expects an error with all of these words.
#[track_caller]
fn refused(model: &Path, more: &[&str], words: &[&str]) {
    let place = folder();
    let output = place.path().join("out");
    let arguments = [
        &[
            "run",
            "svd",
            text(model),
            "-o",
            text(&output),
            "--no-evaluate",
            "-q",
        ],
        more,
    ]
    .concat();
    let result = compress(&arguments);
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(2), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "something was left: {left:?}, {stderr}");
}

/// A good model with another `config.json`.
fn changed(change: impl FnOnce(&mut Value)) -> TempDir {
    let model = copy("networks/llama");
    edit_config(model.path(), change);
    model
}

/// Cuts such a model and expects an error about its config with all of these words.
#[track_caller]
fn refused_config(change: impl FnOnce(&mut Value), words: &[&str]) {
    let model = changed(change);
    refused(model.path(), &[], &[&["config.json"], words].concat());
}
