//! Outputs are whole or absent, in shards where they are large, and go on where they were left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use compress_checkpoint::{Card, Checkpoint, Edits, Error, Layout, Output, Record, Writer};
use compress_core::{
    Bits, Factor, Form, Matrix, Quantised, Role, Scheme, Site, SourceId, testing::Random,
};
use serde_json::Value;

fn source() -> Checkpoint {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks/llama_biased");
    Checkpoint::open(&fixture).unwrap()
}

const SITE: Site = Site::new(1, Role::Down);

/// A pair of factors for one weight.
fn pair(source: &Checkpoint) -> Factor {
    let shape = source.config().shape(SITE.role);
    let mut random = Random(1);
    Factor::LowRank {
        up: random.matrix(shape.rows, 3),
        down: random.matrix(3, shape.cols),
    }
}

fn edits() -> Edits {
    Edits {
        forms: [(SITE, Form::LowRank { rank: 3 })].into(),
        ..Edits::default()
    }
}

fn record() -> Record {
    Record {
        made_by: "a test".into(),
        options: serde_json::Value::Null,
        calibration: None,
        aim: serde_json::Value::Null,
        method: "none".into(),
        source: SourceId {
            name: "fixture".into(),
            digest: String::new(),
        },
        format: "f32".into(),
        dense: false,
        plan: Value::Null,
        errors: Value::Null,
        report: None,
        before: None,
    }
}

fn card() -> Card {
    Card {
        name: "out".into(),
        table: String::new(),
        command: "a test".into(),
    }
}

fn write(source: &Checkpoint, layout: &Layout, target: &Path) -> PathBuf {
    let output = Output::new(target, false, source).unwrap();
    let writer = Writer::begin(source, layout, output, "task").unwrap();
    writer.put(0, &[(SITE, pair(source), 0.5)]).unwrap();
    writer.write_others().unwrap();
    writer.finish(&record(), &card()).unwrap();
    target.to_owned()
}

#[test]
fn small_shards_hold_the_same_model_as_one_file() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let whole = Layout::new(&source, &edits()).unwrap();
    let sharded = Layout::with_shards_of(&source, &edits(), 10_000).unwrap();
    let whole = Checkpoint::open(&write(&source, &whole, &place.path().join("whole"))).unwrap();
    let folder = write(&source, &sharded, &place.path().join("sharded"));
    let shards = fs::read_dir(&folder).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".safetensors")
    });
    assert!(shards.count() > 3);
    let sharded = Checkpoint::open(&folder).unwrap();
    assert_eq!(whole.tensors().len(), sharded.tensors().len());
    for name in whole.tensors().keys() {
        assert_eq!(
            whole.raw(name).unwrap(),
            sharded.raw(name).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_layout_foretells_the_size_of_the_files() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    for limit in [usize::MAX, 20_000] {
        let layout = Layout::with_shards_of(&source, &edits(), limit).unwrap();
        let folder = write(&source, &layout, &place.path().join(limit.to_string()));
        let written = Checkpoint::open(&folder).unwrap();
        assert_eq!(written.file_bytes(), layout.bytes());
        assert_eq!(written.parameters(), layout.parameters());
    }
}

#[test]
fn factors_come_back_as_they_were_put() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let layout = Layout::new(&source, &edits()).unwrap();
    let written = Checkpoint::open(&write(&source, &layout, &place.path().join("out"))).unwrap();
    assert_eq!(written.factor(SITE).unwrap(), pair(&source));
}

#[test]
fn embedding_and_head_are_rounded_on_their_way() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let scheme = Scheme::symmetric(Bits::Eight, None);
    let rounded = Edits {
        tables: Some(scheme),
        ..edits()
    };
    let layout = Layout::new(&source, &rounded).unwrap();
    let written = Checkpoint::open(&write(&source, &layout, &place.path().join("out"))).unwrap();
    assert_eq!(written.file_bytes(), layout.bytes());
    assert_eq!(written.parameters(), layout.parameters());
    for &table in source.config().tables() {
        let Factor::Whole(whole) = source.table(table).unwrap() else {
            panic!("the source is not rounded")
        };
        let expected = Factor::Rounded {
            base: Quantised::nearest(&whole, scheme).unwrap(),
            correction: None,
        };
        assert_eq!(written.table(table).unwrap(), expected);
    }
    // What is rounded already stays as it is.
    let again = Layout::new(
        &written,
        &Edits {
            tables: Some(scheme),
            ..Edits::default()
        },
    )
    .unwrap();
    assert_eq!(again.parameters(), layout.parameters());
}

#[test]
fn an_unfinished_output_goes_on_with_the_same_task_only() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let source = source();
    let layout = Layout::new(&source, &edits()).unwrap();
    let begin = |task: &str| {
        let output = Output::new(&target, false, &source).unwrap();
        Writer::begin(&source, &layout, output, task)
    };
    let writer = begin("task").unwrap();
    writer.put(0, &[(SITE, pair(&source), 0.25)]).unwrap();
    let journal = writer.work().join(".journal");
    drop(writer);
    assert!(!target.exists());
    // A kill in the middle of a line leaves half of it.
    let mut file = fs::OpenOptions::new().append(true).open(&journal).unwrap();
    file.write_all(b"{\"step\":1,\"err").unwrap();
    let again = begin("task").unwrap();
    assert_eq!(again.finished().clone(), [(0, vec![(SITE, 0.25)])].into());
    assert!(matches!(
        begin("another task"),
        Err(Error::OtherWork { .. })
    ));
}

#[test]
fn numbers_too_large_for_half_precision_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let layout = Layout::new(
        &source,
        &Edits {
            format: Some(compress_core::Format::F16),
            ..edits()
        },
    )
    .unwrap();
    let output = Output::new(&place.path().join("out"), false, &source).unwrap();
    let writer = Writer::begin(&source, &layout, output, "task").unwrap();
    let shape = source.config().shape(SITE.role);
    let factor = Factor::LowRank {
        up: Matrix::from_fn(shape.rows, 3, |_, _| 70_000.0),
        down: Matrix::zeros(3, shape.cols),
    };
    let refused = writer
        .put(0, &[(SITE, factor, 0.0)])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("1.mlp.down_proj.up.weight") && refused.contains("--dtype"),
        "{refused}"
    );
}
