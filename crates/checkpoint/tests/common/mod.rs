//! A small model with changed settings and tensors, and outputs of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use compress_checkpoint::{Card, Checkpoint, Input, Layout, Output, OutputSpec, Record, Writer};
use compress_core::{Edit, SourceId};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// Dtype, shape and bytes of a tensor.
pub type Contents = (Dtype, Vec<usize>, Vec<u8>);

/// The tensors of a model by name.
pub type Tensors = BTreeMap<String, Contents>;

/// A network of the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks");
    root.join(name)
}

/// The tensors of a model.
pub fn tensors(model: &Path) -> Tensors {
    let bytes = fs::read(model.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = tensors.iter().map(|(name, view)| {
        let contents = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        (name.to_owned(), contents)
    });
    read.collect()
}

/// The settings of a model.
pub fn settings(model: &Path) -> Value {
    serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap()
}

/// A network of the fixtures whose settings and tensors have been changed.
pub fn changed(name: &str, change: impl FnOnce(&mut Value, &mut Tensors)) -> TempDir {
    let (mut json, mut tensors) = (settings(&fixture(name)), tensors(&fixture(name)));
    change(&mut json, &mut tensors);
    let model = tempfile::tempdir().unwrap();
    fs::write(model.path().join("config.json"), json.to_string()).unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &model.path().join("model.safetensors")).unwrap();
    model
}

/// The bytes of floats.
pub fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Writes an output and opens it.
pub fn written(
    source: &Checkpoint,
    spec: &OutputSpec,
    edits: &[Edit],
    target: &Path,
) -> Checkpoint {
    let layout = Layout::new(source, spec).unwrap();
    let output = Output::claim(target, false, &[Input::Model(source.path())]).unwrap();
    let writer = Writer::begin(source, &layout, output, "task").unwrap();
    writer.put(0, edits).unwrap();
    writer.write_others().unwrap();
    let card = Card {
        name: "out".into(),
        table: String::new(),
        command: "a test".into(),
    };
    writer.publish(&record(), &card).unwrap();
    let written = Checkpoint::open(target).unwrap();
    assert_eq!(written.file_bytes(), layout.bytes());
    assert_eq!(written.parameters(), layout.parameters());
    written
}

/// The record of an output that a test makes.
pub fn record() -> Record {
    Record {
        made_by: "a test".into(),
        options: Value::Null,
        calibration: None,
        refit: Value::Null,
        method: "none".into(),
        source: SourceId {
            name: "fixture".into(),
            digest: String::new(),
        },
        format: "f32".into(),
        dense: false,
        plan: Value::Null,
        decided_by: None,
        errors: Value::Null,
        report: None,
        before: None,
    }
}
