//! Where evidence is kept: a directory of one safetensors file per input and per weight.
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
//!                           values [min(m, n)] F64: what each rank is worth in that norm
//! about.json                what decides the numbers: digests of the model and of the tokens
//! .use                      held, shared, by every run that reads here; its time is that of the last use
//! .lock                     held by the run that measures
//! ```
//!
//! Sums are made in `f64` and kept in `f32`, which is as exact as the products that they are sums of.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use compress_checkpoint::{is_at, put_in_place};
use compress_core::{Evidence, InputKind, LayerInput, Needs, Role, Site, Symmetric};
use safetensors::{Dtype, SafeTensors, View};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, host::remove};

/// The evidence of one model, text and settings.
pub struct EvidenceStore {
    folder: PathBuf,
    in_use: File,
}

impl EvidenceStore {
    /// Opens or makes the store for what `about` describes, within `root`. Whatever decides the
    /// numbers must be in `about`; it is hashed to the folder's name.
    pub fn open(root: &Path, about: &Value) -> Result<Self> {
        let folder = root.join(Self::name(about));
        let text = text(about);
        let in_use = enter(&folder)?;
        let path = folder.join("about.json");
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            let part = part(&path);
            fs::write(&part, text).map_err(Error::io(&part))?;
            fs::rename(&part, &path).map_err(Error::io(&path))?;
        }
        Ok(Self { folder, in_use })
    }

    /// The name of the folder of such a store.
    #[must_use]
    pub fn name(about: &Value) -> String {
        let digest = Sha256::digest(text(about).as_bytes());
        let start = digest.iter().take(8);
        let name = start.fold(0, |name, &byte| name << 8 | u64::from(byte));
        format!("{name:016x}")
    }

    /// Keeps other runs from measuring the same until what is returned goes; waits for one that does.
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

    /// Removes what passes have left between the blocks; to be called by the run that measures.
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

    /// Removes the store, unless another run uses it.
    pub fn remove(self) -> Result<()> {
        let Self { folder, in_use } = self;
        drop(in_use);
        remove_unused(&folder).map(|_| ())
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The part of `needs` that is not there for every block of a model with so many.
    #[must_use]
    pub fn missing(&self, needs: Needs, layers: usize) -> Needs {
        let all = |has: fn(&Self, usize) -> bool| (0..layers).all(|layer| has(self, layer));
        Needs {
            activations: needs.activations && !all(Self::has_activations),
            attention_weighted: needs.attention_weighted && !all(Self::has_attention_weighted),
            gradients: needs.gradients && !all(Self::has_gradients),
        }
    }

    /// Whether a block's activations are there.
    pub(crate) fn has_activations(&self, layer: usize) -> bool {
        InputKind::ALL
            .iter()
            .all(|&kind| self.of_input(LayerInput::new(layer, kind)).exists())
    }

    /// Whether what a block's keys and values read is there, weighted.
    pub(crate) fn has_attention_weighted(&self, layer: usize) -> bool {
        self.of_attention_weighted(layer).exists()
    }

    /// Whether a block's gradients are there.
    pub(crate) fn has_gradients(&self, layer: usize) -> bool {
        Role::ALL
            .iter()
            .all(|&role| self.of_site(Site::new(layer, role)).exists())
    }

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

    /// The residual stream before block `layer`, of all windows.
    pub(crate) fn states(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.states"))
    }

    /// The gradient by the residual stream before block `layer`, of all windows.
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

fn text(about: &Value) -> String {
    format!("{about:#}\n")
}

/// Enters a store's folder, made where it is not there yet, so that nobody removes it.
fn enter(folder: &Path) -> Result<File> {
    let path = folder.join(USE);
    let mut attempts = 0;
    loop {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        attempts += 1;
        let file = match File::create(&path) {
            // Moved away this moment by another run, which removes it.
            Err(error) if error.kind() == ErrorKind::NotFound && attempts < ATTEMPTS => continue,
            made => made.map_err(Error::io(&path))?,
        };
        file.lock_shared().map_err(Error::io(&path))?;
        if is_at(&file, &path) {
            // What tells how long ago it was used; where it cannot be told it looks older than it is.
            let _ = file.set_modified(SystemTime::now());
            return Ok(file);
        }
    }
}

/// How often a store is entered anew that others remove.
const ATTEMPTS: usize = 100;

/// The file of a store that says whether, and when last, it is used.
pub const USE: &str = ".use";

/// Removes a store; false where a run uses it. One that another run has removed is gone as well.
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
    // Under another name first: whoever wants the store from now on makes a new one.
    let gone = part(folder).with_extension(GONE);
    fs::rename(folder, &gone).map_err(Error::io(folder))?;
    match fs::remove_dir_all(&gone) {
        // Another run may sweep it away meanwhile.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(&gone)(error)),
        _ => Ok(true),
    }
}

/// The extension of a store that is being removed.
pub const GONE: &str = "gone";

fn gram(path: &Path) -> Result<Symmetric> {
    let lower = read(path, "gram")?;
    let size = ((8.0 * lower.len() as f64 + 1.0).sqrt() as usize - 1) / 2;
    Symmetric::from_lower(size, lower)
        .ok_or_else(|| Error::damaged(path, &"`gram` is not a triangle"))
}

fn read(path: &Path, name: &str) -> Result<Vec<f64>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::damaged(path, &e))?;
    let tensor = file.tensor(name).map_err(|e| Error::damaged(path, &e))?;
    let numbers: Vec<f64> = match tensor.dtype() {
        Dtype::F64 => {
            let numbers = tensor.data().as_chunks().0.iter();
            numbers.map(|b| f64::from_le_bytes(*b)).collect()
        }
        Dtype::F32 => {
            let numbers = tensor.data().as_chunks().0.iter();
            numbers.map(|b| f32::from_le_bytes(*b).into()).collect()
        }
        _ => return Err(Error::damaged(path, &format!("`{name}` holds no numbers"))),
    };
    if numbers.iter().any(|x| !x.is_finite()) {
        let problem = format!("`{name}` holds NaN or infinity");
        return Err(Error::damaged(path, &problem));
    }
    Ok(numbers)
}

/// Numbers on their way to disk: their bytes are made when it is their turn.
struct Numbers<'a> {
    all: &'a [f64],
    shape: [usize; 1],
    dtype: Dtype,
}

impl<'a> Numbers<'a> {
    const fn double(numbers: &'a [f64]) -> Self {
        Self {
            all: numbers,
            shape: [numbers.len()],
            dtype: Dtype::F64,
        }
    }

    const fn single(numbers: &'a [f64]) -> Self {
        let dtype = Dtype::F32;
        Self {
            dtype,
            ..Self::double(numbers)
        }
    }
}

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = self.all.iter();
        if self.dtype == Dtype::F32 {
            numbers.flat_map(|x| (*x as f32).to_le_bytes()).collect()
        } else {
            numbers.flat_map(|x| x.to_le_bytes()).collect()
        }
    }

    fn data_len(&self) -> usize {
        let each = if self.dtype == Dtype::F32 { 4 } else { 8 };
        each * self.all.len()
    }
}

/// Written beside, made to last and renamed, so that a file is whole or not there.
fn write(path: &Path, tensors: Vec<(&str, Numbers<'_>)>) -> Result<()> {
    let part = part(path);
    safetensors::serialize_to_file(tensors, None, &part).map_err(|e| Error::damaged(&part, &e))?;
    Ok(put_in_place(&part, path)?)
}

/// A name beside a file that is no other run's, nor another thread's of this one.
fn part(path: &Path) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{count}.part", process::id()));
    name.into()
}
