//! Resolves a Hugging Face hub id to a local directory, cache first.
//!
//! The cache is that of Python's `huggingface_hub` (`models--org--name/{blobs,refs,snapshots}`), so
//! a model that either program has downloaded is there for both. A complete copy is used without
//! any network access, even if the hub has a newer commit by now; otherwise the missing files are
//! downloaded: config, tokenizer and safetensors, and no weights in other formats.
//!
//! Needs a name of the form `org/name`, and for private or gated models a token. Cost: one listing,
//! then two requests per missing file. Files go to disk through a buffer of 256 KiB; an interrupted
//! download continues where it stopped.
//!
//! ```no_run
//! use compress_hub::{ModelId, Settings, resolve};
//!
//! let id: ModelId = "HuggingFaceTB/SmolLM2-135M".parse()?;
//! let directory = resolve(&id, &Settings::from_env()?, &())?;
//! assert!(directory.join("config.json").is_file());
//! # Ok::<(), compress_hub::Error>(())
//! ```
//!
//! References: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

mod cache;
mod checkpoint;
mod client;
mod download;
mod error;
mod id;
mod listing;
mod names;
mod progress;
mod settings;

use std::path::PathBuf;

pub use error::Error;
pub use id::ModelId;
pub use progress::Progress;
pub use settings::Settings;

use cache::Repository;
use client::Client;
use download::Download;
use listing::Listing;
use names::parts;

/// The local directory of the model: `config.json`, the safetensors (one file, or the index and all
/// its shards), the adapter that the config names, the tokenizer and the other small files. For an
/// id that names a GGUF file, the path of that file.
///
/// A complete copy in the cache is returned without asking the hub; a partial one is completed.
/// `progress` is told of each file's download, from the calling thread. Blocks until all is on
/// disk, and waits while another process downloads the same file.
///
/// Every [`Error`] names the model and the remedy: the hub cannot be reached or refuses access,
/// there is no such model or file, its weights are in a format that is not read, the answer cannot
/// be trusted, or the disk cannot be written.
pub fn resolve(
    id: &ModelId,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PathBuf, Error> {
    let repository = Repository::new(&settings.cache, id);
    if let Some(found) = cached(id, &repository) {
        return Ok(found);
    }
    if settings.offline {
        return Err(Error::Offline {
            id: id.to_string(),
            cache: settings.cache.clone(),
        });
    }
    let client = Client::new(id, settings);
    let listing = client.listing()?;
    let download = Download::new(&client, &repository, &listing.commit, progress);
    let path = match id.file() {
        Some(file) => download_one(id, &listing, &download, file)?,
        None => download_checkpoint(id, &listing, &download)?,
    };
    // Recorded only when all files are there, so that a name in the cache does not lead to a
    // partial copy.
    repository.set_commit(id.revision(), &listing.commit)?;
    Ok(path)
}

/// The copy in the cache, if it is complete.
fn cached(id: &ModelId, repository: &Repository) -> Option<PathBuf> {
    let snapshot = repository.snapshot(&repository.commit(id.revision())?);
    match id.file() {
        Some(file) => {
            let mut parts = parts(file).into_iter();
            let whole = parts.all(|part| snapshot.join(part).is_file());
            whole.then(|| snapshot.join(file))
        }
        None => checkpoint::lacks(&snapshot).is_none().then_some(snapshot),
    }
}

/// Downloads a GGUF model, all of its parts where its name says that it is one of several; the error for
/// a wrong name lists the files of the model.
fn download_one(
    id: &ModelId,
    listing: &Listing,
    download: &Download,
    file: &str,
) -> Result<PathBuf, Error> {
    let parts = parts(file);
    // Reported before gigabytes of the others.
    if !parts.iter().all(|part| listing.has(part)) {
        return Err(Error::NoSuchFile {
            id: id.to_string(),
            files: listing.gguf(),
        });
    }
    for part in &parts {
        download.file(part)?;
    }
    Ok(download.snapshot().join(file))
}

/// Downloads a checkpoint, weights last: a copy with all of its weights is complete.
fn download_checkpoint(
    id: &ModelId,
    listing: &Listing,
    download: &Download,
) -> Result<PathBuf, Error> {
    // Before any download: a model without readable weights is of no use.
    listing.check_weights(id)?;
    for name in listing.small_files() {
        download.file(name)?;
    }
    let snapshot = download.snapshot();
    let incomplete = |missing: String| Error::Incomplete {
        id: id.to_string(),
        missing,
    };
    for name in listing.adapter(&snapshot) {
        // Reported now, not after gigabytes of weights.
        if !listing.has(&name) {
            return Err(incomplete(name));
        }
        download.file(&name)?;
    }
    for name in listing.weights(&snapshot).unwrap_or_default() {
        download.file(&name)?;
    }
    // An index may name shards that the model does not have.
    match checkpoint::lacks(&snapshot) {
        None => Ok(snapshot),
        Some(missing) => Err(incomplete(missing)),
    }
}
