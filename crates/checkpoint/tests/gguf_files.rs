//! GGUF files as people have them: in several parts, without some keys, with tensors too many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use compress_checkpoint::Checkpoint;
use compress_gguf::{BlockType, Gguf, Tensor, Value};
use tempfile::TempDir;

type Metadata = BTreeMap<String, Value>;

fn llama() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf/llama.gguf")
}

/// Lengths and counts.
fn count(number: usize) -> Vec<u8> {
    (number as u64).to_le_bytes().to_vec()
}

fn string(text: &str) -> Vec<u8> {
    [count(text.len()), text.as_bytes().to_vec()].concat()
}

/// The number of a value's type, and its bytes.
fn encoded(value: &Value) -> (u32, Vec<u8>) {
    match value {
        Value::Unsigned(number) => (10, number.to_le_bytes().to_vec()),
        Value::Signed(number) => (11, number.to_le_bytes().to_vec()),
        Value::F32(number) => (6, number.to_le_bytes().to_vec()),
        Value::F64(number) => (12, number.to_le_bytes().to_vec()),
        Value::Bool(truth) => (7, vec![u8::from(*truth)]),
        Value::Text(text) => (8, string(text)),
        Value::Array(values) => {
            let items: Vec<_> = values.iter().map(encoded).collect();
            let kind = items.first().map_or(0, |(kind, _)| *kind);
            let head = [kind.to_le_bytes().to_vec(), count(items.len())].concat();
            let items = items.into_iter().flat_map(|(_, bytes)| bytes);
            (9, head.into_iter().chain(items).collect())
        }
    }
}

/// A file of some tensors, whose data are copied from another.
fn written(metadata: &Metadata, tensors: &[(&String, &Tensor)], data: &[u8]) -> Vec<u8> {
    let mut file = [b"GGUF".to_vec(), 3_u32.to_le_bytes().to_vec()].concat();
    file.extend([count(tensors.len()), count(metadata.len())].concat());
    for (key, value) in metadata {
        let (kind, bytes) = encoded(value);
        file.extend([string(key), kind.to_le_bytes().to_vec(), bytes].concat());
    }
    let mut body = Vec::new();
    for (name, tensor) in tensors {
        let rank = (tensor.shape.len() as u32).to_le_bytes().to_vec();
        let dims: Vec<u8> = tensor.shape.iter().rev().flat_map(|&n| count(n)).collect();
        // The fixture has F32, number 0, and F16, number 1.
        let kind = u32::from(tensor.kind != BlockType::F32);
        let rest = [kind.to_le_bytes().to_vec(), count(body.len())].concat();
        file.extend([string(name), rank, dims, rest].concat());
        body.extend(&data[tensor.range.clone()]);
        body.resize(body.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    [file, body].concat()
}

/// The name of a part, counted from 1.
fn name(part: usize, count: usize) -> String {
    format!("tiny-{part:05}-of-{count:05}.gguf")
}

/// The fixture in parts, in a folder of its own.
fn in_parts(count: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = fs::read(llama()).unwrap();
    let whole = Gguf::parse(&data).unwrap();
    let tensors: Vec<_> = whole.tensors().iter().collect();
    for part in 0..count {
        let mut metadata = if part == 0 {
            whole.metadata().clone()
        } else {
            Metadata::new()
        };
        let numbers = [
            ("split.no", part),
            ("split.count", count),
            ("split.tensors.count", tensors.len()),
        ];
        metadata
            .extend(numbers.map(|(key, number)| (key.to_owned(), Value::Unsigned(number as u64))));
        let some: Vec<_> = tensors.iter().skip(part).step_by(count).copied().collect();
        let path = folder.path().join(name(part + 1, count));
        fs::write(path, written(&metadata, &some, &data)).unwrap();
    }
    folder
}

fn refusal(path: &Path) -> String {
    Checkpoint::open(path).err().unwrap().to_string()
}

#[test]
fn any_part_of_a_split_model_stands_for_the_whole() {
    let expected = Checkpoint::open(&llama()).unwrap();
    let folder = in_parts(3);
    let parts = (1..=3).map(|part| Checkpoint::open(&folder.path().join(name(part, 3))).unwrap());
    let parts: Vec<_> = parts.collect();
    for model in &parts {
        assert_eq!(model.tensors().len(), expected.tensors().len());
        for tensor in expected.tensors().keys() {
            let numbers = model.numbers(tensor).unwrap();
            assert!(numbers == expected.numbers(tensor).unwrap(), "{tensor}");
        }
        let files: Vec<_> = model.weight_files().map(Path::to_owned).collect();
        let all = [1, 2, 3].map(|part| folder.path().join(name(part, 3)));
        assert_eq!(files, all);
        assert_eq!(model.digest().unwrap(), parts[0].digest().unwrap());
        assert!(model.tokenizer().is_ok() && model.warnings().is_empty());
    }
}

#[test]
fn every_part_counts_for_the_digest() {
    let folder = in_parts(2);
    let digest = || {
        let model = Checkpoint::open(&folder.path().join(name(1, 2))).unwrap();
        model.digest().unwrap()
    };
    let before = digest();
    let path = folder.path().join(name(2, 2));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    assert_ne!(digest(), before);
}

#[test]
fn a_missing_part_is_named() {
    let folder = in_parts(3);
    fs::remove_file(folder.path().join(name(2, 3))).unwrap();
    for part in [1, 3] {
        let refused = refusal(&folder.path().join(name(part, 3)));
        assert!(
            refused.contains("tiny-00002-of-00003.gguf is not"),
            "{refused}"
        );
    }
}

#[test]
fn a_part_under_another_name_is_refused() {
    let folder = in_parts(2);
    let first = folder.path().join(name(1, 2));
    let renamed = folder.path().join("model.gguf");
    fs::copy(&first, &renamed).unwrap();
    let refused = refusal(&renamed);
    assert!(refused.contains("-00001-of-00002.gguf"), "{refused}");
    // The first part in place of the second.
    fs::copy(&first, folder.path().join(name(2, 2))).unwrap();
    let source = Checkpoint::open(&first).err().unwrap();
    let source = std::error::Error::source(&source).unwrap().to_string();
    assert!(source.contains("in its place is part 0 of 2"), "{source}");
}

#[test]
fn absurd_counts_of_parts_cost_an_error_only() {
    let folder = tempfile::tempdir().unwrap();
    for parts in [1_u64 << 60, u64::MAX, 99_999] {
        let numbers = [("split.no", 0), ("split.count", parts)];
        let metadata = numbers.map(|(key, number)| (key.to_owned(), Value::Unsigned(number)));
        let path = folder.path().join(format!("a-00001-of-{parts:05}.gguf"));
        fs::write(&path, written(&Metadata::from(metadata), &[], &[])).unwrap();
        let refused = refusal(&path);
        assert!(refused.contains("a-00002-of-"), "{refused}");
    }
}

#[test]
fn a_guess_is_a_warning_and_a_tensor_too_many_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.gguf");
    let data = fs::read(llama()).unwrap();
    let whole = Gguf::parse(&data).unwrap();
    let mut metadata = whole.metadata().clone();
    metadata.remove("tokenizer.ggml.pre");
    let mut tensors: Vec<_> = whole.tensors().iter().collect();
    fs::write(&path, written(&metadata, &tensors, &data)).unwrap();
    let model = Checkpoint::open(&path).unwrap();
    assert!(matches!(model.warnings(), [one] if one.contains("tokenizer.ggml.pre")));
    let unknown = "blk.0.attn_q.scale".to_owned();
    tensors.push((&unknown, tensors[0].1));
    fs::write(&path, written(&metadata, &tensors, &data)).unwrap();
    assert!(refusal(&path).contains("`blk.0.attn_q.scale`"));
}
