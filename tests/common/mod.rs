//! What the command-line tests share.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use compress_core::Format;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// A file or folder under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// A folder that goes when the test ends.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A copy of a fixture's checkpoint, to be damaged.
pub fn copy(name: &str) -> TempDir {
    let to = folder();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Changes the `config.json` of a model.
pub fn edit_config(model: &Path, change: impl FnOnce(&mut Value)) {
    let path = model.join("config.json");
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
}

/// Shape and numbers of every tensor of a model in `f32`.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of `model.safetensors`, all of them in `f32`.
pub fn tensors(model: &Path) -> Tensors {
    let bytes = fs::read(model.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let decoded = tensors.map(|(name, view)| {
        let format = match view.dtype() {
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            _ => Format::F32,
        };
        (name, (view.shape().to_vec(), format.decode(view.data())))
    });
    decoded.collect()
}

/// Changes the tensors of a model, all of which are `f32` then.
pub fn edit_tensors(model: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = tensors(model);
    change(&mut tensors);
    let bytes: BTreeMap<_, _> = tensors
        .into_iter()
        .map(|(name, (shape, numbers))| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name, (shape, bytes))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, bytes))| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(model.join("model.safetensors"), file).unwrap();
}

/// Runs `compress`.
pub fn compress(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

/// `compress`, to be given arguments.
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_compress"))
}

/// Runs `compress`, and kills it after a while.
pub fn kill_after<S: AsRef<std::ffi::OsStr>>(time: Duration, arguments: &[S]) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// All files of an output but its card, which has the time of decoding.
pub fn files(output: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(output).unwrap().map(|entry| entry.unwrap());
    let entries = entries.filter(|entry| entry.file_name() != "README.md");
    let read = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    read.collect()
}

/// Kills a run twice in a row, `kills` times over, at moments all over it: the third start has to write what a run
/// without a break does. What lies in `others` goes before each time, as the output does.
pub fn goes_on_after_kills(arguments: &[&str], output: &Path, others: &[&Path], kills: u32) {
    let clock = Instant::now();
    success(&compress(arguments));
    let time = clock.elapsed();
    let whole = files(output);
    for kill in 0..kills {
        for folder in others.iter().chain([&output]) {
            fs::remove_dir_all(folder).unwrap();
        }
        for moment in [kill, (kill * 7 + 3) % 10] {
            kill_after(time * moment / 10 + Duration::from_millis(3), arguments);
        }
        if !output.exists() {
            success(&compress(arguments));
        }
        assert_eq!(
            files(output),
            whole,
            "{arguments:?}, killed at {kill} tenths"
        );
    }
    fs::remove_dir_all(output).unwrap();
}

/// What a run printed on stdout; fails with its stderr unless it succeeded.
pub fn success(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model or text of the folder `shared` beside the checkout.
pub fn shared(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(name);
    assert!(path.exists(), "{} is not there", path.display());
    path
}

/// The JSON object that a command prints.
pub fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&success(&compress(
        &[arguments, &["--json", "-q"]].concat(),
    )))
    .unwrap()
}

/// stories15m, and the text that it is scored on.
pub fn stories() -> (PathBuf, PathBuf) {
    (
        shared("models/stories15m"),
        shared("text/tinystories_valid_slice.txt"),
    )
}

/// SmolLM2's GGUF file, which `COMPRESS_SMOLLM2` names, and the text that it is scored on.
pub fn smollm2() -> (PathBuf, PathBuf) {
    let model = std::env::var("COMPRESS_SMOLLM2");
    assert!(model.is_ok(), "COMPRESS_SMOLLM2 names SmolLM2's GGUF file");
    (model.unwrap().into(), shared("text/wikitext2_raw_test.txt"))
}

/// Asserts that a figure is within a tolerance.
#[track_caller]
pub fn near(found: &Value, expected: f64, tolerance: f64) {
    let found = found.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= tolerance,
        "{found} is not {expected} ± {tolerance}"
    );
}
