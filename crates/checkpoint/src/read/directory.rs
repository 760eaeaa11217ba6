//! The safetensors files of a Hugging Face directory: one file, or shards named by an index.
//!
//! ```text
//! 8 bytes      length of the header, little endian
//! header       JSON: for each tensor its dtype, shape and data_offsets
//! data         the tensors, offsets counted from here
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use compress_core::Format;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::{
    Error, Kind, Result, Tensor,
    read::{mistaken, weight_file::WeightFile},
};

/// The weight files, and all their tensors by name.
pub type Contents = (Vec<WeightFile>, BTreeMap<String, Tensor>);

/// Opens the weights of a Hugging Face directory. `model.safetensors` is preferred where an index
/// exists as well, as in transformers. Fails with [`Error::NoModel`] where neither exists.
pub fn open(root: &Path) -> Result<Contents> {
    let index = root.join("model.safetensors.index.json");
    let single = root.join("model.safetensors");
    if single.is_file() {
        let file = WeightFile::open(single)?;
        let tensors = header(&file, 0)?;
        Ok((vec![file], tensors))
    } else if index.is_file() {
        sharded(root, &index)
    } else {
        Err(mistaken::without_weights(root))
    }
}

/// Reads a JSON file; fails where it is missing or not JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    mistaken::check_contents(path, &text)?;
    serde_json::from_slice(&text).map_err(|e| Error::damaged(path, format!("not valid JSON: {e}")))
}

/// Opens the shards of an index. The index is checked against the headers: each tensor must be in
/// the shard that the index names, and in one shard only, or two readers could see two models.
fn sharded(root: &Path, index: &Path) -> Result<Contents> {
    let json = read_json(index)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::damaged(index, "`weight_map` is missing"))?;
    // A set: most tensors name the same few shards.
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| {
            Error::damaged(index, format!("the file of `{tensor}` is not a name"))
        })?;
        names.insert(plain_name(index, "shard", file)?);
    }
    let mut files = Vec::new();
    let mut tensors = BTreeMap::new();
    for name in names {
        let file = WeightFile::open(root.join(name))?;
        for (tensor, found) in header(&file, files.len())? {
            // Which of the two would be read depended on the order of the shards.
            if tensors.insert(tensor.clone(), found).is_some() {
                return Err(Error::damaged(
                    &file.path,
                    format!("tensor `{tensor}` is also in another shard"),
                ));
            }
        }
        files.push(file);
    }
    // The converse of the above: a tensor of the index may be missing, or in another shard.
    for (tensor, shard) in map {
        let file = tensors.get(tensor).and_then(|found| files.get(found.file));
        let name = file.and_then(|file| file.path.file_name());
        if name.and_then(|name| name.to_str()) != shard.as_str() {
            let problem = format!("tensor `{tensor}` is not in the shard named for it");
            return Err(Error::damaged(index, problem));
        }
    }
    Ok((files, tensors))
}

/// A name without folders: a shard or an adapter must lie beside the file that names it, or a
/// downloaded model could have files read from anywhere.
pub fn plain_name<'a>(file: &Path, what: &str, name: &'a str) -> Result<&'a str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(name),
        _ => Err(Error::damaged(
            file,
            format!("{what} `{name}` lies outside the folder"),
        )),
    }
}

/// The tensors of an open safetensors file, which is the `index`th of the checkpoint.
pub fn header(file: &WeightFile, index: usize) -> Result<BTreeMap<String, Tensor>> {
    let tensors = file.look(parse_header)?;
    let mut tensors = tensors.map_err(|problem| Error::damaged(&file.path, problem))?;
    for tensor in tensors.values_mut() {
        tensor.file = index;
    }
    Ok(tensors)
}

/// The tensors in the bytes of a safetensors file, with byte ranges counted from its start. The
/// safetensors crate checks that offsets are contiguous and match dtype and shape; here, that they
/// end within the file. On failure returns the problem in words.
pub fn parse_header(file: &[u8]) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let (length, metadata) =
        SafeTensors::read_metadata(file).map_err(|e| format!("not a safetensors file: {e}"))?;
    // `data_offsets` count from the end of the header, which follows its length of 8 bytes.
    let start = length + 8;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        if file.get(range.clone()).is_none() {
            return Err(format!("tensor `{name}` reaches past the end of the file"));
        }
        tensors.insert(
            name,
            Tensor {
                shape: info.shape.clone(),
                kind: kind(info.dtype),
                file: 0,
                range,
            },
        );
    }
    Ok(tensors)
}

/// Dtypes other than the three floats are kept by name: they are copied, or checked where codes are
/// read.
fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float(Format::F32),
        Dtype::F16 => Kind::Float(Format::F16),
        Dtype::BF16 => Kind::Float(Format::Bf16),
        other => Kind::Opaque(format!("{other:?}")),
    }
}
