//! The files of the source that belong to its output as they are: tokenizer, chat templates, settings
//! of generation, licence.

use std::{ffi::OsStr, fs, path::Path};

use crate::{Error, Result, record, write::modelling};

/// Extensions of weights in any format: they would be the weights of the uncompressed model.
const WEIGHTS: [&str; 13] = [
    "safetensors",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "h5",
    "msgpack",
    "npz",
    "onnx",
    "onnx_data",
    "ot",
    "tflite",
];
/// What the output has a file of its own for.
const OWN: [&str; 4] = ["config.json", "README.md", record::FILE, modelling::FILE];
/// The folders that belong to a tokenizer. Others hold the model in other formats, an adapter of
/// another rounding, or pictures of the card.
const FOLDERS: [&str; 1] = ["additional_chat_templates"];

/// Copies the files at the top of the source folder, and those in the folders of its tokenizer, that
/// are neither weights, nor hidden, nor written by the output itself.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_files(from, to)?;
    for name in FOLDERS {
        let (from, to) = (from.join(name), to.join(name));
        if from.is_dir() {
            // It is there already where a killed run goes on.
            fs::create_dir_all(&to).map_err(Error::io(&to))?;
            copy_files(&from, &to)?;
        }
    }
    Ok(())
}

/// Copies the files of one folder.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let entry = entry.map_err(Error::io(from))?;
        let path = entry.path();
        let file_name = entry.file_name();
        let name = file_name.to_str().unwrap_or_default();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let weights = WEIGHTS.contains(&extension) || name.ends_with(".index.json");
        // In the cache of the hub they are links to files.
        if path.is_file() && !weights && !OWN.contains(&name) && !name.starts_with('.') {
            // The contents only: a read-only copy could not be written again by a run that goes on.
            let contents = fs::read(&path).map_err(Error::io(&path))?;
            fs::write(to.join(&file_name), contents).map_err(Error::io(to))?;
        }
    }
    Ok(())
}
