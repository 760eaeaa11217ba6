//! Writes an output in its work directory and publishes it by a rename.
//!
//! 1. `begin` writes headers and all tensors that no method computes.
//! 2. `put` writes the factors of a step to their places and adds a line to the journal.
//! 3. `write_others` writes config, tokenizer and modelling file.
//! 4. `publish` adds record and card, syncs all of it and renames the directory.
//!
//! A killed run leaves its work directory, and the same task continues there with the first step
//! that is not in the journal. Memory: the factors of the steps in progress, and chunks of the
//! tensors that are copied.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use compress_core::{Dictionary, Edit, Matrix};
use serde_json::Value;

use crate::{
    Card, Checkpoint, Config, Error, Finished, Layout, Output, Record, Result, digest,
    names::{self, Contents},
    read::adapter,
    record,
    write::{
        description, durable, front_matter,
        journal::Journal,
        layout::{Content, Placed},
        modelling, others,
        output::Identity,
        shards::Shards,
        untouched,
        work::{self, Work},
    },
};

/// Numbers that are encoded at a time: 4 MiB of `f32`.
const PIECE: usize = 1 << 20;

/// The name of the model card.
const CARD: &str = "README.md";

/// An output that is being written.
pub struct Writer<'a> {
    source: &'a Checkpoint,
    layout: &'a Layout,
    shards: Shards<'a>,
    journal: Journal,
    work: Work,
    output: Output, // last, so that the lock is let go when all else is closed
}

impl<'a> Writer<'a> {
    /// Starts an output, or continues it where the work directory has the same layout and the same
    /// `task` (model, plan and options as text). Writes headers and all tensors that no method
    /// computes, which reads those of the source once. Fails where the disk is full, the source
    /// holds NaN or infinity, or the work directory belongs to another task; the work directory is
    /// removed if it cannot be continued.
    pub fn begin(
        source: &'a Checkpoint,
        layout: &'a Layout,
        output: Output,
        task: &str,
    ) -> Result<Self> {
        // Headers have every name, shape and offset: a work directory of another layout has another
        // fingerprint.
        let headers = layout.shards.iter().map(|shard| shard.header.as_slice());
        let fingerprint = digest::of_parts(headers.chain([task.as_bytes()]));
        let work = Work::open(output.work(), fingerprint, layout, output.force())?;
        let (shards, journal) = match lay_out(source, layout, &work) {
            // Before the fingerprint is written the directory cannot be continued, so nothing is
            // kept.
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

    /// The steps that earlier runs have finished, with the errors of the weights that they changed:
    /// the caller skips them.
    #[must_use]
    pub fn finished(&self) -> &Finished {
        &self.journal.before().finished
    }

    /// The first block that earlier runs have not finished, where blocks are compressed in order; 0
    /// otherwise.
    #[must_use]
    pub fn first_block(&self) -> usize {
        self.journal.before().block
    }

    /// The unfinished output directory. It opens as a [`Checkpoint`] once all tensors and the
    /// config are written.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.work.model()
    }

    /// The work directory.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.folder()
    }

    /// A folder in the work directory for a method's own checkpoints, not created here. While it
    /// has anything in it, a failure leaves the work directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.work.state()
    }

    /// Writes the factors of one step to their places and records the step; possible from several
    /// threads. [`settle`](Self::settle) makes it durable. Fails where a factor does not have the
    /// form that was laid out, or holds a number that is not finite or too large for the dtype.
    pub fn put(&self, step: usize, edits: &[Edit]) -> Result<()> {
        for Edit { site, factor, .. } in edits {
            let computed = Content::Computed(*site);
            let nowhere = compress_core::Error::NoSuchSite { site: *site };
            let written = self.put_contents(names::contents(*site, factor), &computed)?;
            written.ok_or(nowhere)?;
        }
        let errors = edits.iter().map(|edit| (edit.site, edit.error));
        self.journal.step(step, errors)
    }

    /// The same for a step that makes atoms. Fails where they do not have the form that was laid out, or a number is not
    /// finite or too large for the dtype.
    pub fn put_dictionary(&self, step: usize, atoms: &Dictionary) -> Result<()> {
        let (group, problem) = (atoms.group, "the output has no place for these atoms");
        let nowhere = compress_core::Error::Dictionary { group, problem };
        let shared = Content::Shared(group);
        let written = self.put_contents(names::dictionary_contents(atoms), &shared)?;
        written.ok_or(nowhere)?;
        self.journal.step(step, [].into_iter())
    }

    /// Writes tensors of that content to their places; none where one has no place.
    fn put_contents(
        &self,
        all: Vec<(String, Contents<'_>)>,
        content: &Content,
    ) -> Result<Option<()>> {
        for (name, contents) in all {
            let placed = self.placed(|it| it.name == name && it.content == *content);
            let Some(placed) = placed else {
                return Ok(None);
            };
            match contents {
                Contents::Bytes(bytes) => self.shards.write(placed, 0, &bytes)?,
                Contents::Floats(matrix) => {
                    let matrix = padded(matrix, &placed.shape);
                    // In pieces: atoms may be many times as large as a weight.
                    let mut written = 0;
                    for piece in matrix.data().chunks(PIECE) {
                        written += self.shards.write_numbers(placed, written, piece)?;
                    }
                }
            }
        }
        Ok(Some(()))
    }

    /// Makes finished steps durable, at most once a second. To be called when steps that belong
    /// together are done, so that a kill loses only the last of them.
    pub fn settle(&self) -> Result<()> {
        self.journal.flush_at_times(|| self.shards.sync())
    }

    /// Records that all blocks before `first` are finished, and makes them durable.
    pub fn put_block(&self, first: usize) -> Result<()> {
        self.journal.block(first, || self.shards.sync())
    }

    /// Overwrites a float tensor with other numbers of the same shape, as training does with norms
    /// and biases. Not recorded in the journal. Fails where there is no such tensor or the count
    /// differs.
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

    /// The first tensor of the layout that satisfies a condition.
    fn placed(&self, is_it: impl Fn(&&Placed) -> bool) -> Option<&Placed> {
        self.layout.tensors.iter().find(is_it)
    }

    /// Writes everything but weights: config, tokenizer, shard index, modelling file, adapter
    /// settings, and the source's other files.
    pub fn write_others(&self) -> Result<()> {
        let folder = self.model();
        let write = |name: &str, contents: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, contents).map_err(Error::io(&path))
        };
        let write_json = |name: &str, json: &Value| write(name, format!("{json:#}\n").as_bytes());
        // A GGUF file has its tokenizer in the metadata; its folder may hold anything.
        if self.source.is_gguf() {
            for (name, contents) in self.source.tokenizer_files()? {
                write(&name, contents.as_bytes())?;
            }
        } else {
            others::copy(self.source.path(), &folder)?;
        }
        if let Some(index) = self.layout.index() {
            write_json("model.safetensors.index.json", &index)?;
        }
        if self.layout.is_factored() {
            write(
                modelling::FILE,
                modelling::source(self.source.config(), self.layout)?.as_bytes(),
            )?;
        }
        if let Some(settings) = description::adapter(self.layout) {
            let name = format!("{}/{}", adapter::FOLDER, adapter::SETTINGS);
            write_json(&name, &settings)?;
        }
        // The dtype field is written only where it changes. That of weights of one byte is another
        // program's choice.
        let changes = self.layout.format != self.source.format() || self.source.is_scaled();
        let format = changes.then_some(self.layout.format);
        write_json(
            "config.json",
            &modelling::config(self.source.config(), self.layout, format),
        )
    }

    /// Adds the record and the model card, syncs the whole directory and renames it to its target.
    /// From then on the model is complete, even if this process is killed.
    ///
    /// Fails where the disk is full or something has appeared at the target; the finished model
    /// then stays in the work directory, and the same task only renames it.
    pub fn publish(self, record: &Record, card: &Card) -> Result<Published<'a>> {
        let model = self.work.model();
        // The folder of a GGUF file may hold the card of anything.
        let kept = if self.source.is_gguf() {
            String::new()
        } else {
            front_matter::kept(self.source.path())?
        };
        let of = (self.source.config(), self.layout);
        describe(&model, record, card, &kept, of)?;
        self.journal.flush(|| self.shards.sync())?;
        durable::sync_tree(&model)?;
        // Recorded before the rename: a later run tells by the identity whether the rename has
        // happened.
        self.journal.publishing(Identity::of(&model))?;
        self.output.publish(&model, &self.work.spare())?;
        self.work.remove()?;
        Ok(Published {
            of,
            kept,
            output: self.output,
        })
    }

    /// Removes the work directory, after a failure from which nothing can be continued.
    pub fn discard(self) -> Result<()> {
        self.work.remove()
    }

    /// Ends after a failure. The work directory is kept if its journal has a line or a method has a
    /// checkpoint in it, else removed; true if kept. Pending journal lines are made durable.
    pub fn leave(self) -> Result<bool> {
        // Without a durable line there is at most a second of work, which the same command would
        // repeat on its way to the same failure.
        if !self.journal.vouches() && !self.work.has_state() {
            return self.work.remove().map(|()| false);
        }
        self.journal.flush(|| self.shards.sync()).map(|()| true)
    }
}

/// A published output, whose lock is still held.
pub struct Published<'a> {
    /// What it is, for its card.
    of: (&'a Config, &'a Layout),
    /// The lines that its card has from the source's.
    kept: String,
    output: Output,
}

impl Published<'_> {
    /// The path of the output.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.output.target()
    }

    /// Replaces the record and the card, each by an atomic rename: they can so be completed by
    /// measurements of the published model. Fails where the work directory exists or the disk is
    /// full; the earlier files then stay.
    pub fn describe(&self, record: &Record, card: &Card) -> Result<()> {
        // Written beside the model and with a journal, by which the next run knows the folder as
        // ours: a kill leaves no partial file in the model.
        let work = self.output.work();
        fs::create_dir(&work).map_err(Error::io(&work))?;
        Journal::open(&work)?;
        describe(&work, record, card, &self.kept, self.of)?;
        durable::sync_tree(&work)?;
        // One after the other: each file is whole at any moment, both together are not replaced at
        // once.
        for name in [record::FILE, CARD] {
            let path = self.path().join(name);
            fs::rename(work.join(name), &path).map_err(Error::io(path))?;
        }
        durable::sync_folder(self.path())?;
        work::remove(&work)
    }
}

/// Writes `compression.json` and `README.md` into a folder.
fn describe(
    folder: &Path,
    record: &Record,
    card: &Card,
    kept: &str,
    of: (&Config, &Layout),
) -> Result<()> {
    let json = serde_json::to_string_pretty(record)
        .map_err(|e| Error::damaged(record::FILE, e.to_string()))?;
    let card = card.render(record, kept, of)?;
    for (name, text) in [(record::FILE, json + "\n"), (CARD, card)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Creates the weight files with their headers and all tensors that are not computed, unless an
/// earlier run has.
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
        // Written last, so that the fingerprint means: everything but the computed weights is
        // there.
        work.set_laid_out()?;
    }
    Ok((shards, journal))
}

/// A matrix with zero rows and columns added up to a shape; borrowed where it fits. Corrections of
/// different ranks are stored with the largest: zeros add nothing to B · A.
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
