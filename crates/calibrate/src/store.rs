//! Where evidence is kept: a directory of one safetensors file per stream and per weight.
//!
//! ```text
//! 3.attention.activations.safetensors
//!                           gram [n(n+1)/2] F64: the lower triangle of H, row after row
//!                           mean_absolute [n], mean_square [n] F64: of each channel
//! 3.attended.safetensors    gram [n(n+1)/2] F64: that of Σ a x xᵀ at the inlet of attention
//! 3.query.gradients.safetensors
//!                           gram [m(m+1)/2] F64: that of G
//!                           input_fisher [n] F64
//! 3.query.kronecker.spectrum.safetensors
//!                           values [min(m, n)] F64: what each rank is worth in that norm
//! about.json                what decides the numbers: digests of the model and of the tokens
//! ```

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use compress_core::{Evidence, Inlet, Needs, Role, Site, Stream, Symmetric};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, calibrate::remove};

/// The evidence of one model, text and settings.
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens or makes the store for what `about` describes, within `root`. Whatever decides the
    /// numbers must be in `about`; it is hashed to the folder's name.
    pub fn open(root: &Path, about: &Value) -> Result<Self> {
        let text = format!("{about:#}\n");
        let digest = Sha256::digest(text.as_bytes());
        let start = digest.iter().take(8);
        let name = start.fold(0, |name, &byte| name << 8 | u64::from(byte));
        let folder = root.join(format!("{name:016x}"));
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let path = folder.join("about.json");
        fs::write(&path, text).map_err(Error::io(&path))?;
        Ok(Self { folder })
    }

    /// Keeps other runs from measuring the same until what is returned goes; waits for one that does.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.folder.join(".lock");
        let lock = File::create(&path).map_err(Error::io(&path))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another run, which measures the same");
            lock.lock().map_err(Error::io(&path))?;
        }
        Ok(lock)
    }

    /// Removes what killed runs have left, unless a run is at it.
    pub(crate) fn tidy_if_alone(&self) -> Result<()> {
        let path = self.folder.join(".lock");
        let lock = File::create(&path).map_err(Error::io(&path))?;
        match lock.try_lock() {
            Ok(()) => self.tidy(),
            Err(_) => Ok(()),
        }
    }

    /// Removes what passes have left between the blocks.
    pub(crate) fn tidy(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let kind = path.extension().unwrap_or_default();
            if ["states", "state_gradients", "part"]
                .iter()
                .any(|name| kind == *name)
            {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What of the needed is not there for all blocks of a model with so many.
    #[must_use]
    pub fn missing(&self, needs: Needs, layers: usize) -> Needs {
        let all = |has: fn(&Self, usize) -> bool| (0..layers).all(|layer| has(self, layer));
        Needs {
            activations: needs.activations && !all(Self::has_activations),
            attended: needs.attended && !all(Self::has_attended),
            gradients: needs.gradients && !all(Self::has_gradients),
        }
    }

    /// Whether a block's activations are there.
    pub(crate) fn has_activations(&self, layer: usize) -> bool {
        Inlet::ALL
            .iter()
            .all(|&inlet| self.of_stream(Stream::new(layer, inlet)).exists())
    }

    /// Whether what a block's keys and values read is there, weighted.
    pub(crate) fn has_attended(&self, layer: usize) -> bool {
        self.of_attended(layer).exists()
    }

    /// Whether a block's gradients are there.
    pub(crate) fn has_gradients(&self, layer: usize) -> bool {
        Role::ALL
            .iter()
            .all(|&role| self.of_site(Site::new(layer, role)).exists())
    }

    pub(crate) fn put_activations(
        &self,
        stream: Stream,
        gram: &Symmetric,
        mean_absolute: &[f64],
        tokens: usize,
    ) -> Result<()> {
        let mean_square: Vec<f64> = gram.diagonal().map(|x| x / tokens as f64).collect();
        let tensors = [
            ("gram", gram.lower()),
            ("mean_absolute", mean_absolute),
            ("mean_square", &mean_square),
        ];
        write(&self.of_stream(stream), &tensors)
    }

    pub(crate) fn put_attended(&self, layer: usize, gram: &Symmetric) -> Result<()> {
        write(&self.of_attended(layer), &[("gram", gram.lower())])
    }

    pub(crate) fn put_gradients(
        &self,
        site: Site,
        gram: &Symmetric,
        input_fisher: &[f64],
    ) -> Result<()> {
        let tensors = [("gram", gram.lower()), ("input_fisher", input_fisher)];
        write(&self.of_site(site), &tensors)
    }

    /// The residual stream before block `layer`, of all windows.
    pub(crate) fn states(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.states"))
    }

    /// The gradient by the residual stream before block `layer`, of all windows.
    pub(crate) fn state_gradients(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.state_gradients"))
    }

    fn of_stream(&self, stream: Stream) -> PathBuf {
        self.folder
            .join(format!("{stream}.activations.safetensors"))
    }

    fn of_attended(&self, layer: usize) -> PathBuf {
        self.folder.join(format!("{layer}.attended.safetensors"))
    }

    fn of_spectrum(&self, site: Site, norm: &str) -> PathBuf {
        self.folder
            .join(format!("{site}.{norm}.spectrum.safetensors"))
    }

    fn of_site(&self, site: Site) -> PathBuf {
        self.folder.join(format!("{site}.gradients.safetensors"))
    }
}

impl Evidence for Store {
    fn activations(&self, stream: Stream) -> compress_core::Result<Symmetric> {
        gram(&self.of_stream(stream)).map_err(compress_core::Error::source)
    }

    fn attended(&self, layer: usize) -> compress_core::Result<Symmetric> {
        gram(&self.of_attended(layer)).map_err(compress_core::Error::source)
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
        let tensors = [("values", spectrum)];
        write(&self.of_spectrum(site, norm), &tensors).map_err(compress_core::Error::source)
    }
}

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
    if tensor.dtype() != Dtype::F64 {
        return Err(Error::damaged(path, &format!("`{name}` is not F64")));
    }
    let number = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    let numbers: Vec<f64> = tensor.data().chunks_exact(8).map(number).collect();
    if numbers.iter().any(|x| !x.is_finite()) {
        return Err(Error::damaged(
            path,
            &format!("`{name}` holds NaN or infinity"),
        ));
    }
    Ok(numbers)
}

/// Written beside and renamed, so that a file is whole or not there.
fn write(path: &Path, tensors: &[(&str, &[f64])]) -> Result<()> {
    let bytes: Vec<_> = tensors
        .iter()
        .map(|(name, numbers)| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            (*name, numbers.len(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, length, bytes)| {
        let view = TensorView::new(Dtype::F64, vec![*length], bytes);
        Ok((*name, view.map_err(|e| Error::damaged(path, &e))?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let part = path.with_extension("part");
    safetensors::serialize_to_file(views, None, &part).map_err(|e| Error::damaged(&part, &e))?;
    fs::rename(&part, path).map_err(Error::io(path))
}
