//! The crates used as libraries: cuts every weight of a model to half of its parameters by truncated SVD, and writes a
//! directory that transformers loads. `compress run svd` adds evidence, resuming, evaluation and a card with figures.
//!
//! ```sh
//! cargo run --release -p compress-checkpoint --example svd_a_model -- models/tiny OUT
//! ```

use std::{error::Error, path::PathBuf};

use compress_checkpoint::{Card, Checkpoint, Input, Layout, Output, OutputSpec, Record, Writer};
use compress_core::{Budget, Method as _, SourceId, Step, Survey};
use compress_svd::Svd;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, out] = &arguments[..] else {
        return Err("usage: svd_a_model MODEL OUT".into());
    };
    // Reads headers only; weights are loaded one at a time.
    let source = Checkpoint::open(model)?;
    let survey = Survey::new(&source, |_| true);
    let method = Svd::default();
    let steps = method.plan(&survey, Some(Budget::keep(0.5)?))?;
    // The layout fixes every size and offset before any weight is computed.
    let spec = OutputSpec {
        forms: steps.iter().flat_map(Step::forms).collect(),
        ..OutputSpec::default()
    };
    let layout = Layout::new(&source, &spec)?;
    println!("{} bytes become {}", source.file_bytes(), layout.bytes());
    // Locks the target, and refuses one that would overwrite the input.
    let output = Output::claim(out, false, &[Input::Model(model)])?;
    let writer = Writer::begin(&source, &layout, output, "svd at 0.5")?;
    for (index, step) in steps.iter().enumerate() {
        writer.put(index, &method.compress(&[*step], &survey)?)?;
    }
    writer.write_others()?;
    // Until here the output is in OUT.compress-work; this renames it.
    let published = writer.publish(&record(&source, model)?, &card(out))?;
    println!("{} is there", published.path().display());
    Ok(())
}

/// The contents of `compression.json`; its `digest` reads the whole source.
fn record(source: &Checkpoint, model: &std::path::Path) -> Result<Record, Box<dyn Error>> {
    Ok(Record {
        made_by: "svd_a_model".into(),
        method: "svd".into(),
        options: Value::Null,
        calibration: None,
        refit: Value::Null,
        source: SourceId {
            name: model.display().to_string(),
            digest: source.digest()?,
        },
        format: source.format().to_string(),
        dense: false,
        plan: Value::Null,
        decided_by: None,
        errors: json!({}),
        report: None,
        before: Record::of(source),
    })
}

/// The contents of `README.md`.
fn card(out: &std::path::Path) -> Card {
    Card {
        name: out.display().to_string(),
        table: String::new(),
        command: "cargo run -p compress-checkpoint --example svd_a_model".into(),
    }
}
