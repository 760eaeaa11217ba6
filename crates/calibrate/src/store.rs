//! The store of evidence: a directory with one safetensors file per layer input and per weight.
//!
//! ```text
//! 3.attention.activations.safetensors
//!                           gram [n(n+1)/2] F32: the lower triangle of H, row after row
//!                           mean_absolute [n], mean_square [n] F64: of each channel
//! 3.attention_weighted.safetensors
//!                           gram [n(n+1)/2] F32: that of Σ a x xᵀ at the input of attention
//! 3.query.gradients.safetensors
//!                           gram [m(m+1)/2] F32: that of G
//!                           input_fisher [n] F64
//! 3.query.kronecker.spectrum.safetensors
//!                           values [min(m, n)] F64: the error that each rank saves in that norm
//! 3.lens.safetensors        divergence [windows] F64: the mean KL divergence of each window between blocks 2 and 3
//! about.json                all that decides the numbers: digests of the model and of the tokens
//! .use                      held, shared, by every run that reads here; its time is that of the last use
//! .lock                     held by the run that measures
//! ```
//!
//! Sums are made in `f64` and kept in `f32`, which is as exact as the products that they are sums of. A file is whole
//! or absent: it is written beside, synced and renamed.
//!
//! A store belongs to one list of settings, by the hash in its name: evidence of another model or text is never found
//! in its place. Any number of runs may read it; one at a time measures; none removes it while another uses it.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use compress_checkpoint::is_at;
use compress_core::{Evidence, InputKind, LayerInput, Needs, Role, Site, Symmetric};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, Result,
    host::remove,
    numbers::{Numbers, gram, part, read, write},
};

/// The evidence of one model, calibration text and settings, kept on disk; in use until it is dropped.
pub struct EvidenceStore {
    folder: PathBuf,
    /// Holds a shared lock, which keeps other runs from removing the store.
    in_use: File,
}

impl EvidenceStore {
    /// Opens the store for what `about` describes, within `root`, and makes it where there is none. Everything that
    /// decides the numbers must be in `about`, which is hashed to the folder's name.
    pub fn open(root: &Path, about: &Value) -> Result<Self> {
        let folder = root.join(Self::name(about));
        let text = text(about);
        let in_use = enter(&folder)?;
        let path = folder.join("about.json");
        // One that was never finished is written again: by the folder's name, no other text is meant.
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            let part = part(&path);
            fs::write(&part, text).map_err(Error::io(&part))?;
            fs::rename(&part, &path).map_err(Error::io(&path))?;
        }
        Ok(Self { folder, in_use })
    }

    /// The name of the folder of such a store: 16 hexadecimal digits.
    #[must_use]
    pub fn name(about: &Value) -> String {
        let digest = Sha256::digest(text(about).as_bytes());
        let start = digest.iter().take(8);
        let name = start.fold(0, |name, &byte| name << 8 | u64::from(byte));
        format!("{name:016x}")
    }

    /// Keeps other runs from measuring the same until the file that is returned is dropped; waits for one that does.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.folder.join(".lock");
        let lock = File::create(&path).map_err(Error::io(&path))?;
        if lock.try_lock().is_err() {
            // Where nobody reads stderr any more, `eprintln!` would panic.
            let _ = writeln!(
                io::stderr(),
                "waiting for another run, which measures the same"
            );
            lock.lock().map_err(Error::io(&path))?;
        }
        Ok(lock)
    }

    /// Removes the residual streams and gradients that passes have left; for the run that holds the lock.
    pub(crate) fn tidy(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let kind = path.extension().unwrap_or_default();
            if kind == "states" || kind == "state_gradients" {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the store from disk, unless another run uses it.
    pub fn remove(self) -> Result<()> {
        let Self { folder, in_use } = self;
        // Its own shared lock would keep it in use.
        drop(in_use);
        remove_unused(&folder).map(|_| ())
    }

    /// The store's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The part of `needs` that is not there yet for every block of a model with `layers` blocks.
    #[must_use]
    pub fn missing(&self, needs: Needs, layers: usize) -> Needs {
        let all = |has: fn(&Self, usize) -> bool| (0..layers).all(|layer| has(self, layer));
        Needs {
            activations: needs.activations && !all(Self::has_activations),
            attention_weighted: needs.attention_weighted && !all(Self::has_attention_weighted),
            gradients: needs.gradients && !all(Self::has_gradients),
            lens: needs.lens && !all(Self::has_lens),
        }
    }

    /// Whether H of all layer inputs of a block is there.
    pub(crate) fn has_activations(&self, layer: usize) -> bool {
        InputKind::ALL
            .iter()
            .all(|&kind| self.of_input(LayerInput::new(layer, kind)).exists())
    }

    /// Whether a block's Σ a x xᵀ is there.
    pub(crate) fn has_attention_weighted(&self, layer: usize) -> bool {
        self.of_attention_weighted(layer).exists()
    }

    /// Whether G and the Fisher information of all weights of a block are there.
    pub(crate) fn has_gradients(&self, layer: usize) -> bool {
        Role::ALL
            .iter()
            .all(|&role| self.of_site(Site::new(layer, role)).exists())
    }

    /// Whether the distance of a block from the one before it is there; the first has none.
    pub(crate) fn has_lens(&self, layer: usize) -> bool {
        layer == 0 || self.of_lens(layer).exists()
    }

    /// Stores how far a block is from the one before it, window by window.
    pub(crate) fn put_lens(&self, layer: usize, divergence: &[f64]) -> Result<()> {
        let divergence = Numbers::double(divergence);
        write(&self.of_lens(layer), vec![("divergence", divergence)])
    }

    /// Stores H of a layer input with the mean |x| and x² of its channels, over `tokens` tokens.
    pub(crate) fn put_activations(
        &self,
        input: LayerInput,
        gram: &Symmetric,
        mean_absolute: &[f64],
        tokens: usize,
    ) -> Result<()> {
        let mean_square: Vec<f64> = gram.diagonal().map(|x| x / tokens as f64).collect();
        let tensors = vec![
            ("gram", Numbers::single(gram.lower())),
            ("mean_absolute", Numbers::double(mean_absolute)),
            ("mean_square", Numbers::double(&mean_square)),
        ];
        write(&self.of_input(input), tensors)
    }

    pub(crate) fn put_attention_weighted(&self, layer: usize, gram: &Symmetric) -> Result<()> {
        let gram = Numbers::single(gram.lower());
        write(&self.of_attention_weighted(layer), vec![("gram", gram)])
    }

    /// Stores G of a site, and the Fisher information of each of its inputs.
    pub(crate) fn put_gradients(
        &self,
        site: Site,
        gram: &Symmetric,
        input_fisher: &[f64],
    ) -> Result<()> {
        let tensors = vec![
            ("gram", Numbers::single(gram.lower())),
            ("input_fisher", Numbers::double(input_fisher)),
        ];
        write(&self.of_site(site), tensors)
    }

    /// The file of the residual streams before block `layer`, of all windows.
    pub(crate) fn states(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.states"))
    }

    /// The file of the gradients by the residual streams before block `layer`, of all windows.
    pub(crate) fn state_gradients(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.state_gradients"))
    }

    fn of_input(&self, input: LayerInput) -> PathBuf {
        self.folder.join(format!("{input}.activations.safetensors"))
    }

    fn of_attention_weighted(&self, layer: usize) -> PathBuf {
        self.folder
            .join(format!("{layer}.attention_weighted.safetensors"))
    }

    fn of_lens(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.lens.safetensors"))
    }

    fn of_spectrum(&self, site: Site, norm: &str) -> PathBuf {
        self.folder
            .join(format!("{site}.{norm}.spectrum.safetensors"))
    }

    fn of_site(&self, site: Site) -> PathBuf {
        self.folder.join(format!("{site}.gradients.safetensors"))
    }
}

impl Evidence for EvidenceStore {
    fn activations(&self, input: LayerInput) -> compress_core::Result<Symmetric> {
        gram(&self.of_input(input)).map_err(compress_core::Error::source)
    }

    fn attention_weighted(&self, layer: usize) -> compress_core::Result<Symmetric> {
        gram(&self.of_attention_weighted(layer)).map_err(compress_core::Error::source)
    }

    fn output_gradients(&self, site: Site) -> compress_core::Result<Symmetric> {
        gram(&self.of_site(site)).map_err(compress_core::Error::source)
    }

    fn input_fisher(&self, site: Site) -> compress_core::Result<Vec<f64>> {
        read(&self.of_site(site), "input_fisher").map_err(compress_core::Error::source)
    }

    fn lens(&self, layer: usize) -> compress_core::Result<f64> {
        let windows = read(&self.of_lens(layer), "divergence");
        let windows = windows.map_err(compress_core::Error::source)?;
        // All windows have the same number of tokens.
        Ok(windows.iter().sum::<f64>() / windows.len().max(1) as f64)
    }

    fn spectrum(&self, site: Site, norm: &str) -> compress_core::Result<Option<Vec<f64>>> {
        let path = self.of_spectrum(site, norm);
        let found = path.exists().then(|| read(&path, "values"));
        found.transpose().map_err(compress_core::Error::source)
    }

    fn remember_spectrum(
        &self,
        site: Site,
        norm: &str,
        spectrum: &[f64],
    ) -> compress_core::Result<()> {
        let tensors = vec![("values", Numbers::double(spectrum))];
        write(&self.of_spectrum(site, norm), tensors).map_err(compress_core::Error::source)
    }
}

/// The description as it is hashed and written.
fn text(about: &Value) -> String {
    format!("{about:#}\n")
}

/// Opens and locks the file that marks a store as used; makes the store where it is not there.
fn enter(folder: &Path) -> Result<File> {
    let (path, mut attempts) = (folder.join(USE), 0);
    loop {
        attempts += 1;
        let made = fs::create_dir_all(folder).and_then(|()| File::create(&path));
        let kind = made.as_ref().err().map(io::Error::kind);
        // Another run, which removes the store, has moved it away this moment.
        let gone = matches!(kind, Some(ErrorKind::NotFound | ErrorKind::AlreadyExists));
        if gone && attempts < ATTEMPTS {
            continue;
        }
        let file = made.map_err(Error::io(&path))?;
        file.lock_shared().map_err(Error::io(&path))?;
        // The folder may have been renamed between creating the file and locking it: then this lock guards nothing.
        if is_at(&file, &path) {
            // The time of last use, by which the cache is shrunk; without it, the store looks older than it is.
            let _ = file.set_modified(SystemTime::now());
            return Ok(file);
        }
    }
}

/// Attempts to enter a store that other runs keep removing, before their error is passed on.
const ATTEMPTS: usize = 100;

/// The file whose lock says that a store is in use; its time is that of the last use.
pub const USE: &str = ".use";

/// Removes a store; false where a run uses it. A store that is not there counts as removed.
pub fn remove_unused(folder: &Path) -> Result<bool> {
    let path = folder.join(USE);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        opened => opened.map_err(Error::io(&path))?,
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    if !is_at(&file, &path) {
        return Ok(true);
    }
    // Renamed before it is removed: a run that wants the store from now on makes a new one.
    let gone = part(folder).with_extension(GONE);
    fs::rename(folder, &gone).map_err(Error::io(folder))?;
    match fs::remove_dir_all(&gone) {
        // Another run may sweep it away meanwhile.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(&gone)(error)),
        _ => Ok(true),
    }
}

/// The extension of a store that is under removal.
pub const GONE: &str = "gone";
