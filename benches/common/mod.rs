//! The models that the benches run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use compress_checkpoint::Checkpoint;
use compress_models::{Decoder, Device};

/// The shipped model, whole, at keep 0.8, and in 4 bits.
pub fn models() -> Vec<(&'static str, Decoder)> {
    let tiny = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let rounding = [
        "lorc",
        "--quantizer",
        "nearest",
        "--metric",
        "plain",
        "--group",
        "32",
    ];
    let smaller = [
        compressed(&tiny, "keep 0.8", &["svd"]),
        compressed(&tiny, "4 bits", &rounding),
    ];
    let folders = [("whole", tiny)]
        .into_iter()
        .chain(smaller.into_iter().flatten());
    folders
        .filter_map(|(name, folder)| Some((name, load(&folder)?)))
        .collect()
}

/// Compresses a model by the binary; none where that fails.
fn compressed(
    model: &Path,
    name: &'static str,
    arguments: &[&str],
) -> Option<(&'static str, PathBuf)> {
    let place = std::env::temp_dir().join("compress-bench");
    let output = place.join(name);
    std::fs::create_dir_all(&place).ok()?;
    let status = Command::new(env!("CARGO_BIN_EXE_compress"))
        .arg("run")
        .args(arguments)
        .args(["--no-evaluate", "-q", "--force"])
        .args([model.as_os_str(), "-o".as_ref(), output.as_os_str()])
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some((name, output))
}

fn load(folder: &Path) -> Option<Decoder> {
    Decoder::load(&Checkpoint::open(folder).ok()?, &Device::flex()).ok()
}
