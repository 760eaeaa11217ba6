//! Resolves a Hugging Face hub id to a local directory, cache first.
//!
//! The cache is the one that Python's `huggingface_hub` keeps (`models--org--name/{blobs,refs,snapshots}`),
//! so a model that either program has downloaded is there for both. A complete copy is used without any
//! network access, whatever the hub holds by now; otherwise the missing files are downloaded, those that a
//! checkpoint is read from and no others.
//!
//! Cost: one listing, then two requests per missing file. No byte is held in memory beyond a buffer, and
//! what was interrupted continues where it stopped.
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

/// The local directory that holds the model: `config.json`, the safetensors (one file, or the index and all its
/// shards), the adapter that the config names, the tokenizer and the other small files. For an id that names a GGUF file, the path of that file.
///
/// A complete copy in the cache is returned without asking the hub; `progress` hears of what is downloaded.
///
/// [`Error`] lists what can go wrong: no copy and no hub, no access, no such model, no weights that can be
/// read, or an answer of the hub that cannot be trusted.
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
    repository.set_commit(id.revision(), &listing.commit)?;
    Ok(path)
}

fn cached(id: &ModelId, repository: &Repository) -> Option<PathBuf> {
    let snapshot = repository.snapshot(&repository.commit(id.revision())?);
    match id.file() {
        Some(file) => Some(snapshot.join(file)).filter(|path| path.is_file()),
        None => checkpoint::lacks(&snapshot).is_none().then_some(snapshot),
    }
}

fn download_one(
    id: &ModelId,
    listing: &Listing,
    download: &Download,
    file: &str,
) -> Result<PathBuf, Error> {
    if !listing.has(file) {
        return Err(Error::NoSuchFile {
            id: id.to_string(),
            files: listing.gguf(),
        });
    }
    download.file(file)
}

/// The weights come last, so that weights which are all there mean a copy which is all there.
fn download_checkpoint(
    id: &ModelId,
    listing: &Listing,
    download: &Download,
) -> Result<PathBuf, Error> {
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
        // A correction that is named and not there is told before gigabytes have arrived.
        if !listing.has(&name) {
            return Err(incomplete(name));
        }
        download.file(&name)?;
    }
    for name in listing.weights(&snapshot).unwrap_or_default() {
        download.file(&name)?;
    }
    match checkpoint::lacks(&snapshot) {
        None => Ok(snapshot),
        Some(missing) => Err(incomplete(missing)),
    }
}
