//! From what the user calls a model to an open checkpoint: the shipped model, a path, or a hub id.
//!
//! All verbs that read a model open it here.

use std::{
    collections::BTreeSet,
    iter,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use compress_checkpoint::{Checkpoint, Input, read_policy};
use compress_core::{Role, SourceId};
use compress_hub::{ModelId, Settings};
use tempfile::TempDir;

use crate::{progress, shipped};

/// An open model, and what it is called.
pub struct Opened {
    /// Its headers; weights stay in their files until they are asked for.
    pub checkpoint: Checkpoint,
    /// The name that the user gave it, for reports and records.
    pub name: String,
    /// The digest of its weights, once it was asked for: it costs reading all of them.
    digest: OnceLock<String>,
    /// Holds the shipped model's files while they are in use.
    folder: Option<TempDir>,
}

/// Tells a warning that was not told before: a comparison opens one model for each of its variants.
fn warn_once(warning: String) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.contains(&warning) {
        tell!("warning: {warning}");
        told.insert(warning);
    }
}

impl Opened {
    /// Opens the shipped model where there is no name; else a path, and where nothing is there, a hub id, which may
    /// download it.
    pub fn open(name: Option<&str>, quiet: bool) -> Result<Self> {
        let Some(name) = name else {
            let folder = shipped::unpack()?;
            let checkpoint = Checkpoint::open(folder.path())?;
            return Ok(Self {
                checkpoint,
                name: shipped::NAME.into(),
                digest: OnceLock::new(),
                folder: Some(folder),
            });
        };
        let local = Self::find(name, quiet)?;
        let checkpoint = Checkpoint::open(&local)?;
        for warning in checkpoint.warnings() {
            warn_once(format!("{name}: {warning}"));
        }
        Ok(Self {
            checkpoint,
            name: name.into(),
            digest: OnceLock::new(),
            folder: None,
        })
    }

    /// Where a model of this name is on this machine; downloads it where it has to.
    fn find(name: &str, quiet: bool) -> Result<PathBuf> {
        let path = Path::new(name);
        // First: a path such as `org/name` is a hub id as well, and what is here needs no network.
        if path.exists() {
            return Ok(path.into());
        }
        let Ok(id) = name.parse::<ModelId>() else {
            bail!("{name}: no such file or directory, and not a hub id (org/name)");
        };
        let settings = Settings::from_env()?;
        compress_hub::resolve(&id, &settings, &progress::Download::new(quiet)).with_context(|| {
            format!("{name}: no such file or directory here, and not to be had from the hub")
        })
    }

    /// The paths of it that a run reads and must not replace: its folder, and its weight files, which in the cache of
    /// the hub are links to files elsewhere.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        let files = self.checkpoint.weight_files().map(Input::Other);
        iter::once(Input::Model(self.checkpoint.path())).chain(files)
    }

    /// Takes the cache policy in a file, or none at all for `none`; without a name the one beside the weights stays.
    ///
    /// Fails where the file is no policy, or one of another model.
    pub fn take_policy(&mut self, name: Option<&Path>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let policy = if name == Path::new("none") {
            None
        } else {
            Some(read_policy(name, self.checkpoint.config())?)
        };
        self.checkpoint.set_cache_policy(policy);
        Ok(())
    }

    /// Whether it is the model that is part of this program.
    pub const fn is_shipped(&self) -> bool {
        self.folder.is_some()
    }

    /// Refuses a model that another cannot have been made from, since their shapes differ. Weights of the same shapes
    /// may still be of another model; that shows in the figures only.
    pub fn check_original_of(&self, other: &Self) -> Result<()> {
        let (a, b) = (self.checkpoint.config(), other.checkpoint.config());
        // Embedding and head follow from these three.
        let ends = |c: &compress_checkpoint::Config| (c.layers, c.hidden, c.vocabulary);
        let same = |role: Role| a.shape(role) == b.shape(role);
        ensure!(
            ends(a) == ends(b) && Role::ALL.into_iter().all(same),
            "{} is no original of {}: their weights have other shapes",
            self.name,
            other.name
        );
        Ok(())
    }

    /// The identity of the model in a plan. All of its weights are read for it, the first time.
    pub fn id(&self) -> Result<SourceId> {
        let digest = if let Some(digest) = self.digest.get() {
            digest.clone()
        } else {
            let digest = self.checkpoint.digest()?;
            self.digest.get_or_init(|| digest).clone()
        };
        Ok(SourceId {
            name: self.name.clone(),
            digest,
        })
    }
}
