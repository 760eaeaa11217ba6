//! Writes an output in a work directory beside its target, and renames it at the end.
//!
//! The files are laid out first; then every finished factor goes to its place and a line of the
//! journal says so. A killed run leaves the work directory; the same run goes on from there.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use compress_core::{Contents, Factor, Format, Matrix, Quantised, Scheme, Site};
use serde_json::Value;

use crate::{
    Card, Checkpoint, Error, Finished, Kind, Layout, Output, Record, Result, digest,
    journal::{self, Journal, open_to_write},
    layout::{Content, Placed},
    modelling, quantisation, record,
};

/// The file that says which task a work directory belongs to.
const FINGERPRINT: &str = ".fingerprint";

/// How many numbers are converted at a time.
const CHUNK: usize = 1 << 20;

/// An output under way.
pub struct Writer<'a> {
    source: &'a Checkpoint,
    layout: &'a Layout,
    output: Output,
    files: Vec<Mutex<File>>,
    journal: Journal,
}

impl<'a> Writer<'a> {
    /// Starts an output, or goes on with it where a work directory of the same `task` (model, plan
    /// and options as text) is left. What the plan does not touch is written now.
    pub fn begin(
        source: &'a Checkpoint,
        layout: &'a Layout,
        output: Output,
        task: &str,
    ) -> Result<Self> {
        let work = output.work();
        let mark = work.join(FINGERPRINT);
        let headers = layout.shards.iter().map(|shard| shard.header.as_slice());
        let fingerprint = digest::of_parts(headers.chain([task.as_bytes()]));
        if work.exists() && fs::read_to_string(&mark).ok().as_ref() != Some(&fingerprint) {
            clear(&work, output.force())?;
        }
        if !work.exists() {
            fs::create_dir(&work).map_err(Error::io(&work))?;
        }
        let journal = Journal::open(&work)?;
        if layout.corrections().next().is_some() {
            let adapter = work.join(quantisation::ADAPTER);
            fs::create_dir_all(&adapter).map_err(Error::io(&adapter))?;
        }
        let open = |name: &str| open_to_write(&work.join(name)).map(Mutex::new);
        let files = layout.shards.iter().map(|shard| open(&shard.name));
        let files = files.collect::<Result<_>>()?;
        let writer = Self {
            source,
            layout,
            output,
            files,
            journal,
        };
        if !mark.exists() {
            if let Err(error) = writer.write_untouched() {
                if !matches!(error, Error::Io { .. }) {
                    writer.abandon()?;
                }
                return Err(error);
            }
            // Last, so that a fingerprint means: everything but the factors is there.
            let beside = work.join(".fingerprint.new");
            fs::write(&beside, fingerprint).map_err(Error::io(&beside))?;
            fs::rename(&beside, &mark).map_err(Error::io(&mark))?;
        }
        Ok(writer)
    }

    /// The steps that an earlier run has finished, with the errors of the weights they changed.
    #[must_use]
    pub fn finished(&self) -> &Finished {
        self.journal.finished()
    }

    /// Where the output lies until it is finished: a model that can be opened once all is written.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.output.work()
    }

    /// Puts the factors of one step in their places and notes that it is done.
    pub fn put(&self, step: usize, factors: &[(Site, Factor, f64)]) -> Result<()> {
        for (site, factor, _) in factors {
            for (suffix, contents) in factor.tensors() {
                let content = Content::Computed(*site, suffix);
                let Some(placed) = self
                    .layout
                    .tensors
                    .iter()
                    .find(|placed| placed.content == content)
                else {
                    return Err(compress_core::Error::NoSuchSite { site: *site }.into());
                };
                let bytes = match contents {
                    Contents::Bytes(bytes) => bytes,
                    Contents::Floats(matrix) => {
                        let matrix = padded(matrix, &placed.shape);
                        encode(placed, matrix.data(), &self.work())?
                    }
                };
                self.write(placed, 0, &bytes)?;
            }
        }
        let errors = factors.iter().map(|(site, _, error)| (*site, *error));
        self.journal.note(step, errors)
    }

    /// Puts other numbers in the place of a tensor that keeps its shape.
    pub fn replace(&self, name: &str, numbers: &[f32]) -> Result<()> {
        let placed = self
            .layout
            .tensors
            .iter()
            .find(|placed| placed.name == name);
        let Some(placed) = placed else {
            return Err(Error::MissingTensor {
                path: self.work(),
                name: name.into(),
            });
        };
        let bytes = encode(placed, numbers, &self.work())?;
        if bytes.len() != placed.bytes {
            let problem = format!("{} numbers for tensor `{name}`", numbers.len());
            return Err(Error::damaged(self.work(), problem));
        }
        self.write(placed, 0, &bytes)
    }

    /// Writes what is not weights: config, tokenizer, modelling file, and the source's other files.
    pub fn write_others(&self) -> Result<()> {
        let work = self.work();
        let write = |name: &str, contents: &[u8]| {
            let path = work.join(name);
            fs::write(&path, contents).map_err(Error::io(&path))
        };
        let write_json = |name: &str, json: &Value| write(name, format!("{json:#}\n").as_bytes());
        if self.source.is_gguf() {
            for (name, contents) in self.source.tokenizer_files()? {
                write(&name, contents.as_bytes())?;
            }
        } else {
            copy_others(self.source.path(), &work)?;
        }
        if let Some(index) = self.layout.index() {
            write_json("model.safetensors.index.json", &index)?;
        }
        if self.layout.ranks().next().is_some() {
            write(
                modelling::FILE,
                modelling::source(self.source.config())?.as_bytes(),
            )?;
        }
        if let Some(adapter) = quantisation::adapter_config(self.layout) {
            write_json(
                &format!("{}/adapter_config.json", quantisation::ADAPTER),
                &adapter,
            )?;
        }
        let format = (self.layout.format != self.source.format()).then_some(self.layout.format);
        write_json(
            "config.json",
            &modelling::config(self.source.config(), self.layout, format),
        )
    }

    /// Adds the record and the model card, and gives the directory its name.
    pub fn finish(self, record: &Record, card: &Card) -> Result<()> {
        let work = self.work();
        let json = serde_json::to_string_pretty(record)
            .map_err(|e| Error::damaged(record::FILE, e.to_string()))?;
        for (name, text) in [
            (record::FILE, json + "\n"),
            ("README.md", card.render(record, self.layout)?),
        ] {
            fs::write(work.join(name), text).map_err(Error::io(work.join(name)))?;
        }
        for file in &self.files {
            lock(file).sync_all().map_err(Error::io(&work))?;
        }
        // Without its marks the directory is whole; a kill from here on costs a run from the start.
        for name in [FINGERPRINT, journal::FILE] {
            fs::remove_file(work.join(name)).map_err(Error::io(work.join(name)))?;
        }
        self.output.replace()
    }

    /// Gives up: removes the work directory.
    pub fn abandon(self) -> Result<()> {
        let work = self.work();
        drop(self);
        fs::remove_dir_all(&work).map_err(Error::io(work))
    }

    fn write_untouched(&self) -> Result<()> {
        for (file, shard) in self.files.iter().zip(&self.layout.shards) {
            let path = self.work().join(&shard.name);
            let mut file = lock(file);
            file.set_len(shard.bytes as u64).map_err(Error::io(&path))?;
            file.seek(SeekFrom::Start(0)).map_err(Error::io(&path))?;
            file.write_all(&shard.header).map_err(Error::io(&path))?;
        }
        for placed in &self.layout.tensors {
            match &placed.content {
                Content::Copied(name) => {
                    self.check(placed, name)?;
                    let mut written = 0;
                    self.source.for_each_bytes(name, CHUNK, |bytes| {
                        self.write(placed, written, bytes)?;
                        written += bytes.len();
                        Ok(())
                    })?;
                }
                Content::Converted(name) => self.convert(placed, name)?,
                Content::Rounded(name, scheme, suffix) => {
                    self.round(placed, name, *scheme, suffix)?;
                }
                Content::Computed(..) => {}
            }
        }
        Ok(())
    }

    /// Refuses a copied tensor with a number that is not finite.
    fn check(&self, placed: &Placed, name: &str) -> Result<()> {
        if !matches!(placed.kind, Kind::Float(_)) {
            return Ok(());
        }
        let path = self.source.path();
        self.source.for_each_chunk(name, CHUNK, |numbers| {
            largest(numbers).map_or_else(|| Err(not_finite(placed, path)), |_| Ok(()))
        })
    }

    /// Converts a tensor a few rows at a time.
    fn convert(&self, placed: &Placed, name: &str) -> Result<()> {
        let mut written = 0;
        self.source.for_each_chunk(name, CHUNK, |numbers| {
            let bytes = encode(placed, numbers, self.source.path())?;
            self.write(placed, written, &bytes)?;
            written += bytes.len();
            Ok(())
        })
    }

    /// Rounds a matrix a few rows at a time, and writes one of the tensors that gives.
    fn round(&self, placed: &Placed, name: &str, scheme: Scheme, suffix: &str) -> Result<()> {
        let [rows, cols] = self.source.tensor(name)?.shape[..] else {
            return Err(Error::damaged(
                self.source.path(),
                format!("tensor `{name}` is no matrix"),
            ));
        };
        if suffix == "weight_shape" {
            let shape = [rows, cols].map(|size| (size as i64).to_le_bytes());
            return self.write(placed, 0, &shape.concat());
        }
        let some = (CHUNK / cols.max(1)).max(1);
        let mut written = 0;
        self.source.for_each_chunk(name, some * cols, |numbers| {
            largest(numbers).ok_or_else(|| not_finite(placed, self.source.path()))?;
            let part = Matrix::new(numbers.len() / cols, cols, numbers.to_vec())?;
            let part = Factor::Rounded {
                base: Quantised::nearest(&part, scheme)?,
                correction: None,
            };
            for (_, contents) in part.tensors().iter().filter(|(its, _)| *its == suffix) {
                let Contents::Bytes(bytes) = contents else {
                    continue;
                };
                self.write(placed, written, bytes)?;
                written += bytes.len();
            }
            Ok(())
        })
    }

    fn write(&self, placed: &Placed, at: usize, bytes: &[u8]) -> Result<()> {
        let (Some(file), Some(shard)) = (
            self.files.get(placed.file),
            self.layout.shards.get(placed.file),
        ) else {
            return Err(Error::damaged(
                self.work(),
                format!("no file for `{}`", placed.name),
            ));
        };
        let mut file = lock(file);
        let start = (placed.offset + at) as u64;
        let done = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| file.write_all(bytes));
        done.map_err(Error::io(self.work().join(&shard.name)))
    }
}

/// A poisoned lock only means that another thread failed, which is reported by itself.
fn lock(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The matrix, with zeros to the right and below where its place is larger.
fn padded<'a>(matrix: &'a Matrix, shape: &[usize]) -> Cow<'a, Matrix> {
    let [rows, cols] = shape[..] else {
        return Cow::Borrowed(matrix);
    };
    if (rows, cols) == (matrix.rows(), matrix.cols()) {
        return Cow::Borrowed(matrix);
    }
    let at = |i, j| {
        let inside = i < matrix.rows() && j < matrix.cols();
        if inside {
            matrix.data()[i * matrix.cols() + j]
        } else {
            0.0
        }
    };
    Cow::Owned(Matrix::from_fn(rows, cols, at))
}

/// The bytes of the numbers in the tensor's format; a number that does not fit is an error.
fn encode(placed: &Placed, numbers: &[f32], path: &Path) -> Result<Vec<u8>> {
    let Kind::Float(format) = placed.kind else {
        let found = placed.kind.to_string();
        return Err(Error::NumberType {
            path: path.into(),
            name: placed.name.clone(),
            found,
        });
    };
    let largest = largest(numbers).ok_or_else(|| not_finite(placed, path))?;
    if format == Format::F16 && largest >= 65520.0 {
        let problem = format!(
            "tensor `{}` has the number {largest}, too large for f16; give --dtype bf16 or f32",
            placed.name
        );
        return Err(Error::damaged(path, problem));
    }
    Ok(format.encode(numbers))
}

/// The largest absolute value; none where a number is not finite.
fn largest(numbers: &[f32]) -> Option<f32> {
    // The sum of x·0 is 0, unless an x is NaN or infinite.
    let finite = numbers.iter().map(|x| x * 0.0).sum::<f32>() == 0.0;
    let largest = || numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    finite.then(largest)
}

fn not_finite(placed: &Placed, path: &Path) -> Error {
    let problem = format!(
        "tensor `{}` holds NaN or infinity; the model is damaged",
        placed.name
    );
    Error::damaged(path, problem)
}

/// Removes a work directory that cannot be gone on with: one whose run was killed before it had laid
/// out its files, or with `force` that of another task.
fn clear(work: &Path, force: bool) -> Result<()> {
    if work.join(FINGERPRINT).exists() && !force {
        return Err(Error::OtherWork { path: work.into() });
    }
    let empty = fs::read_dir(work).is_ok_and(|mut entries| entries.next().is_none());
    let ours = [journal::FILE, record::FILE].map(|name| work.join(name).exists());
    if !empty && !ours.contains(&true) {
        let problem = "is in the way, and no work directory of this program; move it away".into();
        return Err(Error::Output {
            path: work.into(),
            problem,
        });
    }
    fs::remove_dir_all(work).map_err(Error::io(work))
}

/// Copies what is no weight, nor a file that the output has of its own.
fn copy_others(from: &Path, to: &Path) -> Result<()> {
    const WEIGHTS: [&str; 9] = [
        "safetensors",
        "bin",
        "pt",
        "pth",
        "gguf",
        "h5",
        "msgpack",
        "onnx",
        "ot",
    ];
    const OWN: [&str; 4] = ["config.json", "README.md", record::FILE, modelling::FILE];
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let entry = entry.map_err(Error::io(from))?;
        let path = entry.path();
        let file_name = entry.file_name();
        let name = file_name.to_str().unwrap_or_default();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let weights = WEIGHTS.contains(&extension) || name.ends_with(".index.json");
        if path.is_file() && !weights && !OWN.contains(&name) && !name.starts_with('.') {
            // The contents only: a read-only copy could not be written again by a run that goes on.
            let contents = fs::read(&path).map_err(Error::io(&path))?;
            fs::write(to.join(&file_name), contents).map_err(Error::io(to))?;
        }
    }
    Ok(())
}
