//! Writes an output in a work directory beside its target, and renames it at the end.
//!
//! The files are laid out first; then every finished factor goes to its place and a line of the
//! journal says so. A killed run leaves the work directory; the same run goes on from there.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use compress_core::{Edit, Matrix};
use serde_json::Value;

use crate::{
    Card, Checkpoint, Error, Finished, Layout, Output, Record, Result, digest,
    names::{self, Contents},
    read::adapter,
    record,
    write::{
        description, durable,
        journal::Journal,
        layout::{Content, Placed},
        modelling,
        output::Identity,
        shards::Shards,
        untouched,
        work::Work,
    },
};

/// The name of the model card.
const CARD: &str = "README.md";

/// An output under way.
pub struct Writer<'a> {
    source: &'a Checkpoint,
    layout: &'a Layout,
    shards: Shards<'a>,
    journal: Journal,
    work: Work,
    output: Output, // last, so that the lock is let go when all else is closed
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
        let headers = layout.shards.iter().map(|shard| shard.header.as_slice());
        let fingerprint = digest::of_parts(headers.chain([task.as_bytes()]));
        let work = Work::open(output.work(), fingerprint, layout, output.force())?;
        let (shards, journal) = match lay_out(source, layout, &work) {
            // Until all is laid out there is nothing to go on from.
            Err(error) if !work.is_laid_out() => {
                work.remove()?;
                return Err(error);
            }
            laid_out => laid_out?,
        };
        Ok(Self {
            source,
            layout,
            shards,
            journal,
            work,
            output,
        })
    }

    /// The steps that an earlier run has finished, with the errors of the weights they changed.
    #[must_use]
    pub fn finished(&self) -> &Finished {
        &self.journal.before().finished
    }

    /// The first block that an earlier run has not finished, of those that are done in order.
    #[must_use]
    pub fn first_block(&self) -> usize {
        self.journal.before().block
    }

    /// Where the model lies until it is published; it can be opened once all is written.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.work.model()
    }

    /// The work directory.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.folder()
    }

    /// A folder in the work directory, not made yet, for what is gone on from beside the journal: while it
    /// is there, a failure leaves the work directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.work.state()
    }

    /// Puts the factors of one step in their places and notes that it is done; [`settle`](Self::settle) makes
    /// that last.
    pub fn put(&self, step: usize, edits: &[Edit]) -> Result<()> {
        for Edit { site, factor, .. } in edits {
            let computed = Content::Computed(*site);
            for (name, contents) in names::contents(*site, factor) {
                let placed = self.placed(|it| it.name == name && it.content == computed);
                let placed = placed.ok_or(compress_core::Error::NoSuchSite { site: *site })?;
                match contents {
                    Contents::Bytes(bytes) => self.shards.write(placed, 0, &bytes)?,
                    Contents::Floats(matrix) => {
                        let matrix = padded(matrix, &placed.shape);
                        self.shards.write_numbers(placed, 0, matrix.data())?;
                    }
                }
            }
        }
        let errors = edits.iter().map(|edit| (edit.site, edit.error));
        self.journal.step(step, errors)
    }

    /// Makes last what was put, at most once a second; to be called when some steps that belong together are
    /// done, so that a kill costs no more than the last of them.
    pub fn settle(&self) -> Result<()> {
        self.journal.flush_at_times(|| self.shards.sync())
    }

    /// Notes that all blocks before this one are done, and makes it last.
    pub fn put_block(&self, first: usize) -> Result<()> {
        self.journal.block(first, || self.shards.sync())
    }

    /// Puts other numbers in the place of a tensor that keeps its shape.
    pub fn replace(&self, name: &str, numbers: &[f32]) -> Result<()> {
        let Some(placed) = self.placed(|placed| placed.name == name) else {
            return Err(Error::MissingTensor {
                path: self.model(),
                name: name.into(),
            });
        };
        if numbers.len() != placed.shape.iter().product::<usize>() {
            let problem = format!("{} numbers for tensor `{name}`", numbers.len());
            return Err(Error::damaged(self.model(), problem));
        }
        self.shards.write_numbers(placed, 0, numbers).map(|_| ())
    }

    fn placed(&self, is_it: impl Fn(&&Placed) -> bool) -> Option<&Placed> {
        self.layout.tensors.iter().find(is_it)
    }

    /// Writes what is not weights: config, tokenizer, modelling file, and the source's other files.
    pub fn write_others(&self) -> Result<()> {
        let folder = self.model();
        let write = |name: &str, contents: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, contents).map_err(Error::io(&path))
        };
        let write_json = |name: &str, json: &Value| write(name, format!("{json:#}\n").as_bytes());
        if self.source.is_gguf() {
            for (name, contents) in self.source.tokenizer_files()? {
                write(&name, contents.as_bytes())?;
            }
        } else {
            copy_others(self.source.path(), &folder)?;
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
        if let Some(settings) = description::adapter(self.layout) {
            let name = format!("{}/{}", adapter::FOLDER, adapter::SETTINGS);
            write_json(&name, &settings)?;
        }
        let format = (self.layout.format != self.source.format()).then_some(self.layout.format);
        write_json(
            "config.json",
            &modelling::config(self.source.config(), self.layout, format),
        )
    }

    /// Adds the record and the model card, and gives the directory its name: from now on the model is
    /// there, whatever happens to those who look at it.
    pub fn publish(self, record: &Record, card: &Card) -> Result<Published<'a>> {
        let model = self.work.model();
        describe(&model, record, card, self.layout)?;
        self.journal.flush(|| self.shards.sync())?;
        durable::sync_tree(&model)?;
        self.journal.publishing(Identity::of(&model))?;
        self.output.publish(&model, &self.work.spare())?;
        self.work.remove()?;
        Ok(Published {
            layout: self.layout,
            output: self.output,
        })
    }

    /// Ends after a failure from which there is nothing to go on, and removes the work directory.
    pub fn discard(self) -> Result<()> {
        self.work.remove()
    }

    /// Ends after a failure. The work directory stays where it vouches for anything, so that the same
    /// command goes on from it; true if so.
    pub fn leave(self) -> Result<bool> {
        // A second's work, which the same command would do and fail after again.
        if !self.journal.vouches() && !self.work.has_state() {
            return self.work.remove().map(|()| false);
        }
        self.journal.flush(|| self.shards.sync()).map(|()| true)
    }
}

/// An output that has its name; no other run writes to it as long as this value is there.
pub struct Published<'a> {
    layout: &'a Layout,
    output: Output,
}

impl Published<'_> {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.output.target()
    }

    /// Puts another record and card in the place of those that it was published with, each at once.
    pub fn describe(&self, record: &Record, card: &Card) -> Result<()> {
        // Made beside the model, in a folder that the next run knows as ours: a kill leaves nothing in it.
        let work = self.output.work();
        fs::create_dir(&work).map_err(Error::io(&work))?;
        Journal::open(&work)?;
        describe(&work, record, card, self.layout)?;
        for name in [record::FILE, CARD] {
            let path = self.path().join(name);
            fs::rename(work.join(name), &path).map_err(Error::io(path))?;
        }
        durable::sync_folder(self.path())?;
        fs::remove_dir_all(&work).map_err(Error::io(&work))
    }
}

fn describe(folder: &Path, record: &Record, card: &Card, layout: &Layout) -> Result<()> {
    let json = serde_json::to_string_pretty(record)
        .map_err(|e| Error::damaged(record::FILE, e.to_string()))?;
    durable::write(&folder.join(record::FILE), (json + "\n").as_bytes())?;
    let card = card.render(record, layout)?;
    durable::write(&folder.join(CARD), card.as_bytes())
}

fn lay_out<'a>(
    source: &Checkpoint,
    layout: &'a Layout,
    work: &Work,
) -> Result<(Shards<'a>, Journal)> {
    let journal = Journal::open(work.folder())?;
    let folder = work.model();
    let make = |folder: &Path| fs::create_dir_all(folder).map_err(Error::io(folder));
    make(&folder)?;
    if layout.corrections().next().is_some() {
        make(&folder.join(adapter::FOLDER))?;
    }
    let shards = Shards::open(layout, folder)?;
    if !work.is_laid_out() {
        shards.start()?;
        untouched::write(source, &shards)?;
        durable::sync_tree(shards.folder())?;
        // Last, so that a fingerprint means: everything but the factors is there.
        work.set_laid_out()?;
    }
    Ok((shards, journal))
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
