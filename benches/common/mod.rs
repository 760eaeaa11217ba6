//! The models that the benches run.

use std::{path::PathBuf, process::Command};

use compress_checkpoint::Checkpoint;
use compress_models::{Decoder, Device};

/// The shipped model, whole and at keep 0.8.
pub fn models() -> Vec<(&'static str, Decoder)> {
    let tiny = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny");
    let place = std::env::temp_dir().join("compress-bench");
    let output = place.join("svd-0.8");
    let _ = std::fs::create_dir_all(&place);
    let cut = Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(["run", "svd", "--no-evaluate", "-q", "--force"])
        .args([tiny.as_os_str(), "-o".as_ref(), output.as_os_str()])
        .status();
    let cut = cut
        .is_ok_and(|status| status.success())
        .then_some(("keep 0.8", output));
    let folders = [("whole", tiny)].into_iter().chain(cut);
    folders
        .filter_map(|(name, folder)| Some((name, load(&folder)?)))
        .collect()
}

fn load(folder: &std::path::Path) -> Option<Decoder> {
    Decoder::load(&Checkpoint::open(folder).ok()?, &Device::flex()).ok()
}
