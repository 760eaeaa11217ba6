//! Writes an output in a work directory beside its target, and renames it at the end.
//!
//! The files are laid out first; then every finished factor goes to its place and a line of the
//! journal says so. A killed run leaves the work directory; the same run goes on from there.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use compress_core::{Factor, Format, Site};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Card, Checkpoint, Error, Kind, Layout, Record, Result, digest,
    layout::{Content, Placed},
    modelling, record,
};

const FINGERPRINT: &str = ".fingerprint";
const JOURNAL: &str = ".journal";

/// How many numbers are converted at a time.
const CHUNK: usize = 1 << 20;

/// A directory to be.
#[derive(Clone, Debug)]
pub struct Output {
    target: PathBuf,
    force: bool,
}

impl Output {
    /// An output at `target`, which must not lie inside the source, and may exist only with `force`.
    pub fn new(target: &Path, force: bool, source: &Checkpoint) -> Result<Self> {
        let problem = |problem: String| {
            Err(Error::Output {
                path: target.into(),
                problem,
            })
        };
        let (Some(parent), Some(_)) = (target.parent(), target.file_name()) else {
            return problem("not a name for a directory".into());
        };
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let parent = parent.canonicalize().map_err(Error::io(parent))?;
        let input = source
            .path()
            .canonicalize()
            .map_err(Error::io(source.path()))?;
        let target = parent.join(target.file_name().unwrap_or_default());
        if target.starts_with(&input) {
            return problem(format!(
                "lies inside the input {}; choose another place",
                input.display()
            ));
        }
        if input.starts_with(&target) {
            return problem(format!(
                "contains the input {}; choose another place",
                input.display()
            ));
        }
        if target.exists() && !force {
            return problem("exists already; give another name, or --force to replace it".into());
        }
        Ok(Self { target, force })
    }

    /// The work directory: the target's name with `.compress-work` after it.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        let mut name = self
            .target
            .file_name()
            .map(OsStr::to_owned)
            .unwrap_or_default();
        name.push(".compress-work");
        self.target.with_file_name(name)
    }
}

/// What the journal says of one finished step.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    step: usize,
    errors: Vec<(Site, f64)>,
}

/// The finished steps by their place in the plan, and the errors of the weights each changed.
pub type Finished = BTreeMap<usize, Vec<(Site, f64)>>;

/// An output under way.
pub struct Writer<'a> {
    source: &'a Checkpoint,
    layout: &'a Layout,
    output: Output,
    files: Vec<Mutex<File>>,
    journal: Mutex<File>,
    finished: Finished,
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
        let fingerprint = digest::of_text(task);
        if work.exists() && fs::read_to_string(&mark).ok().as_ref() != Some(&fingerprint) {
            if mark.exists() && !output.force {
                return Err(Error::OtherWork { path: work });
            }
            fs::remove_dir_all(&work).map_err(Error::io(&work))?;
        }
        if !work.exists() {
            fs::create_dir(&work).map_err(Error::io(&work))?;
        }
        let files = layout
            .shards
            .iter()
            .map(|shard| open_to_write(&work.join(&shard.name)).map(Mutex::new));
        let files = files.collect::<Result<Vec<_>>>()?;
        let (journal, finished) = open_journal(&work.join(JOURNAL))?;
        let writer = Self {
            source,
            layout,
            output,
            files,
            journal: Mutex::new(journal),
            finished,
        };
        if !mark.exists() {
            writer.write_untouched()?;
            // Last, so that a fingerprint means: everything but the factors is there.
            fs::write(&mark, fingerprint).map_err(Error::io(&mark))?;
        }
        Ok(writer)
    }

    /// The steps that an earlier run has finished, with the errors of the weights they changed.
    #[must_use]
    pub const fn finished(&self) -> &Finished {
        &self.finished
    }

    /// Where the output lies until it is finished: a model that can be opened once all is written.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.output.work()
    }

    /// Puts the factors of one step in their places and notes that it is done.
    pub fn put(&self, step: usize, factors: &[(Site, Factor, f64)]) -> Result<()> {
        for (site, factor, _) in factors {
            for (suffix, matrix) in factor.tensors() {
                let content = Content::Computed(*site, suffix);
                let Some(placed) = self
                    .layout
                    .tensors
                    .iter()
                    .find(|placed| placed.content == content)
                else {
                    return Err(compress_core::Error::NoSuchSite { site: *site }.into());
                };
                self.write(placed, 0, &encode(placed, matrix.data(), &self.work())?)?;
            }
        }
        let line = Line {
            step,
            errors: factors
                .iter()
                .map(|(site, _, error)| (*site, *error))
                .collect(),
        };
        let path = self.work().join(JOURNAL);
        let text =
            serde_json::to_string(&line).map_err(|e| Error::damaged(&path, e.to_string()))? + "\n";
        lock(&self.journal)
            .write_all(text.as_bytes())
            .map_err(Error::io(path))
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
        let target = self.output.target.clone();
        if target.exists() {
            if !self.output.force {
                let problem =
                    "has appeared meanwhile; the finished model is in the work directory".into();
                return Err(Error::Output {
                    path: target,
                    problem,
                });
            }
            remove(&target)?;
        }
        for name in [JOURNAL, FINGERPRINT] {
            fs::remove_file(work.join(name)).map_err(Error::io(work.join(name)))?;
        }
        fs::rename(&work, &target).map_err(Error::io(&target))
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
                Content::Copied(name) => self.write(placed, 0, self.source.raw(name)?)?,
                Content::Converted(name) => self.convert(placed, name)?,
                Content::Computed(..) => {}
            }
        }
        Ok(())
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
fn lock(file: &Mutex<File>) -> std::sync::MutexGuard<'_, File> {
    file.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open_to_write(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io(path))
}

/// Reads the whole lines of a journal; a last one that was cut short is cut off.
fn open_journal(path: &Path) -> Result<(File, Finished)> {
    let mut file = open_to_write(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(Error::io(path))?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut finished = BTreeMap::new();
    for line in text.get(..whole).unwrap_or_default().lines() {
        let Line { step, errors } =
            serde_json::from_str(line).map_err(|e| Error::damaged(path, e.to_string()))?;
        finished.insert(step, errors);
    }
    file.set_len(whole as u64).map_err(Error::io(path))?;
    file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
    Ok((file, finished))
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
    let largest = numbers
        .iter()
        .fold(0.0_f32, |largest, x| largest.max(x.abs()));
    if format == Format::F16 && largest >= 65520.0 {
        let problem = format!(
            "tensor `{}` has the number {largest}, too large for f16; give --dtype bf16 or f32",
            placed.name
        );
        return Err(Error::damaged(path, problem));
    }
    Ok(format.encode(numbers))
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
        let path = entry.map_err(Error::io(from))?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let weights = WEIGHTS.contains(&extension) || name.ends_with(".index.json");
        if path.is_file() && !weights && !OWN.contains(&name) && !name.starts_with('.') {
            fs::copy(&path, to.join(name)).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

fn remove(target: &Path) -> Result<()> {
    let removed = if target.is_dir() {
        fs::remove_dir_all(target)
    } else {
        fs::remove_file(target)
    };
    removed.map_err(Error::io(target))
}
