//! Any bytes as an index of shards give the model, or an error.

#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use compress_checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

const INDEX: &str = "model.safetensors.index.json";

/// A copy of a network in shards.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("compress-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let network = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/networks/llama_sharded");
        for entry in fs::read_dir(network).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        folder
    })
}

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    fs::write(folder.join(INDEX), bytes).unwrap();
    if let Ok(model) = Checkpoint::open(folder) {
        assert!(model.weight_files().all(|file| file.starts_with(folder)));
    }
});
