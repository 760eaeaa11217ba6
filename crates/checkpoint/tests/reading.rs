//! Tensors are read where they lie, as many rows at a time as are wanted, and stay in memory no longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use compress_checkpoint::{Checkpoint, names};
use compress_core::Site;

fn fixture(name: &str) -> Checkpoint {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    Checkpoint::open(&fixtures.join(name)).unwrap()
}

#[test]
fn rows_of_embedding_and_head_are_those_of_the_whole_tensor() {
    for name in [
        "networks/llama",
        "networks/llama_sharded",
        "networks/qwen2",
        "gguf/llama.gguf",
    ] {
        let model = fixture(name);
        let hidden = model.config().hidden;
        for &site in [Site::Embedding, Site::Head]
            .iter()
            .filter(|site| model.has_rows(**site))
        {
            let whole = model.numbers(&names::weight(site)).unwrap();
            for (first, count) in [(0, 1), (3, 5), (model.config().vocabulary - 2, 2)] {
                let mut rows = vec![f32::NAN; count * hidden];
                model.rows(site, first, &mut rows).unwrap();
                assert_eq!(
                    rows,
                    whole[first * hidden..][..rows.len()],
                    "{name}, {first}"
                );
            }
            let mut rows = vec![0.0; 3 * hidden];
            let past_the_end = model.rows(site, model.config().vocabulary - 2, &mut rows);
            assert!(past_the_end.unwrap_err().to_string().contains("cut short"));
        }
    }
}

/// What is mapped counts as this program's memory as long as it is; of a model larger than memory all
/// would count, once read.
#[cfg(target_os = "linux")]
#[test]
fn what_was_read_of_a_file_does_not_stay_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let source =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks/llama");
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
    }
    // A second tensor that no network needs, 256 MB of nothing.
    let path = place.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (start, more) = (bytes.len() - 8 - length, 256 << 20);
    header["more"] = serde_json::json!({
        "dtype": "F32", "shape": [more / 4], "data_offsets": [start, start + more],
    });
    let header = header.to_string().into_bytes();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(&bytes[8 + length..]);
    let end = file.len() + more;
    std::fs::write(&path, file).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(end as u64).unwrap();

    let model = Checkpoint::open(place.path()).unwrap();
    let before = resident();
    let sum: f32 = model.numbers("more").unwrap().iter().sum();
    assert_eq!((sum, model.raw("more").unwrap().len()), (0.0, more));
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 64 << 20,
        "{grown} bytes more of files are in memory"
    );
}

/// Bytes of files that count as this process's memory.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssFile:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() << 10
}
