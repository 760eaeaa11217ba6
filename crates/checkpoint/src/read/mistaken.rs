//! Recognises what people give in place of a model: files that only stand for the real ones, a file in place of its
//! folder, the root of a hub cache. Each gets an error that says what it is and what to do.

use std::{fs, path::Path};

use crate::{Error, Result};

/// Bytes that tell a web page or a pointer from a model.
pub const BEGINNING: usize = 256;

/// Refuses a file that only stands for the real one: a pointer of Git LFS, or the web page that a failed download left.
/// Takes its contents, or the first [`BEGINNING`] bytes of them.
pub fn check_contents(path: &Path, contents: &[u8]) -> Result<()> {
    let start = &contents[..contents.len().min(BEGINNING)];
    let text = String::from_utf8_lossy(start).to_lowercase();
    let text = text.trim_start();
    if text.starts_with("version https://git-lfs") {
        let problem = "a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`";
        Err(Error::damaged(path, problem))
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        let problem = "a web page, not the file itself; download that again (some models need a token for it)";
        Err(Error::damaged(path, problem))
    } else {
        Ok(())
    }
}

/// Refuses a single file of a Hugging Face model: the others are needed as well.
pub fn check_whole(path: &Path) -> Result<()> {
    let extension = path.extension().and_then(|it| it.to_str());
    let problem = match extension {
        Some("safetensors" | "json") => "one file of a model; give the folder that it lies in",
        Some("bin" | "pt" | "pth" | "ckpt") => {
            "weights of PyTorch, which are not read; save the model as safetensors"
        }
        _ => return Ok(()),
    };
    Err(missing(path, problem))
}

/// Refuses the root of a model in a hub cache, which has its files in folders of snapshots.
pub fn check_root(root: &Path) -> Result<()> {
    let snapshots = root.join("snapshots");
    if root.join("config.json").exists() || !snapshots.is_dir() {
        return Ok(());
    }
    let mut found = fs::read_dir(&snapshots)
        .map_err(Error::io(&snapshots))?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let snapshot = found.next().unwrap_or(snapshots);
    let problem = format!(
        "the root of a model in a hub cache; give a snapshot in it: {}",
        snapshot.display()
    );
    Err(missing(root, &problem))
}

/// The error that a folder has no weights in a form that is read, with what it has instead.
pub fn without_weights(root: &Path) -> Error {
    let names = fs::read_dir(root).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut shards = names.filter(|name| {
        name.starts_with("model-")
            && Path::new(name)
                .extension()
                .is_some_and(|it| it == "safetensors")
    });
    // The least, so that the message does not depend on the order in which the system lists files.
    match shards.by_ref().min() {
        Some(shard) => missing(
            root,
            &format!(
                "there are shards ({shard}), but not model.safetensors.index.json, which says what is in them; fetch that, too"
            ),
        ),
        None => missing(
            root,
            "no model.safetensors and no model.safetensors.index.json here; weights in other formats must be converted first",
        ),
    }
}

fn missing(path: &Path, problem: &str) -> Error {
    Error::NoModel {
        path: path.into(),
        problem: problem.into(),
    }
}
