//! Any bytes as one of the files that make a tokenizer give one that encodes a text, or an error.

#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use compress_checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

/// The files that are tried, by the first byte; what the others hold is good.
const FILES: [&str; 5] = [
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
];

/// A copy of a small network with a tokenizer in memory, if this machine has such a place.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("compress-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let network = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/networks/llama");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(format!("{network}/{file}"), folder.join(file)).unwrap();
        }
        folder
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let folder = folder();
    let name = FILES[usize::from(*which) % FILES.len()];
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny/tokenizer.json");
    for file in FILES {
        let _ = fs::remove_file(folder.join(file));
    }
    // Settings and added tokens need a tokenizer that they belong to.
    if !name.starts_with("tokenizer.") {
        fs::copy(good, folder.join("tokenizer.json")).unwrap();
    }
    fs::write(folder.join(name), bytes).unwrap();
    if let Ok(tokenizer) = Checkpoint::open(folder).unwrap().tokenizer() {
        let _ = tokenizer.encode_fast("Once <s>upon</s>\n a\u{301} 🦀 time", true);
    }
});
