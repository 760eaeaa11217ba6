//! The place of an output: checks before any work, the lock, and the rename that publishes it.
//!
//! ```text
//! OUT                  the output; it appears complete, by one rename
//! OUT.compress-work    the work directory: the unfinished output, and the state of a killed run
//! OUT.compress-lock    locked by the run that writes to OUT
//! ```
//!
//! All three lie in one folder and so on one file system, within which a rename is atomic.
//! Replacing an earlier output needs `--force`, and exchanges the two names atomically where the
//! system can.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Record, Result, record,
    write::{durable, lock::Lock, work},
};

/// A path that a run reads, and that its output must not overwrite or contain.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A model: the output must not lie inside its folder either, where loaders would find it.
    Model(&'a Path),
    /// Any other input: a text, a plan, a folder of evidence.
    Other(&'a Path),
}

/// An output directory that this run has locked; no other run writes to it while the value exists.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    force: bool,
    _lock: Lock,
}

impl Output {
    /// Locks `target` for this run, and checks that it may be written.
    ///
    /// Fails where the target lies inside an input model or contains an input, where another run
    /// holds the lock, and where it exists: only an empty directory or an earlier output may, and
    /// only with `force`. Its parent folder must exist. Creates nothing but the lock file; removes
    /// a work directory whose model has been published already.
    pub fn claim(target: &Path, force: bool, inputs: &[Input<'_>]) -> Result<Self> {
        let target = named(target)?;
        let work = beside(&target, WORK);
        for input in inputs {
            guard(&target, &work, *input).map_err(refused(&target))?;
        }
        // Before the target is looked at: another run may be about to publish it.
        let lock = Lock::take(&beside(&target, LOCK), &target)?;
        // A run killed between its rename and the removal of its work directory is complete; only
        // the directory is left over.
        if work::is_published(&work, &target) {
            work::remove(&work)?;
        }
        // `symlink_metadata`, so that a dangling link counts as existing.
        if target.symlink_metadata().is_ok() {
            let problem = match (force, replaceable(&target)) {
                (false, _) => "exists already; give another name, or --force to replace it",
                (true, false) => {
                    "is no output of this program, so it is not replaced even by force"
                }
                (true, true) if is_mounted(&target) => {
                    "is where a file system is mounted, so it cannot be replaced; give the name of a folder in it"
                }
                (true, true) => "",
            };
            if !problem.is_empty() {
                return Err(refused(&target)(problem.into()));
            }
        }
        Ok(Self {
            target,
            force,
            _lock: lock,
        })
    }

    /// Moves the finished model to the target. An earlier output is exchanged with it atomically,
    /// so that a complete model is there at any moment, and lies at `model` afterwards; where the
    /// file system cannot exchange, it is moved to `spare` first. Fails, with the model left in
    /// place, where something else has appeared at the target.
    pub(crate) fn publish(&self, model: &Path, spare: &Path) -> Result<()> {
        if self.target.symlink_metadata().is_err() {
            rename_to_nothing(model, &self.target).map_err(Error::io(&self.target))?;
        } else if !self.force || !replaceable(&self.target) {
            let problem = format!(
                "has appeared meanwhile; the finished model stays in {}, and once this is moved away the same command only gives it its name",
                model.display()
            );
            return Err(refused(&self.target)(problem));
        } else if !exchange(model, &self.target).map_err(Error::io(&self.target))? {
            fs::rename(&self.target, spare).map_err(Error::io(&self.target))?;
            if let Err(error) = fs::rename(model, &self.target) {
                // Put the old output back rather than leave none. Should that fail too, the error
                // names `spare`, where it is.
                fs::rename(spare, &self.target).map_err(Error::io(spare))?;
                return Err(Error::io(&self.target)(error));
            }
        }
        // The rename is durable only when the folder that holds the name is synced.
        self.target.parent().map_or(Ok(()), durable::sync_folder)
    }

    /// The absolute path that the output will have.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Whether an earlier output may be replaced.
    pub(crate) const fn force(&self) -> bool {
        self.force
    }

    /// Every path that the run writes to: target, work directory and lock.
    pub fn places(&self) -> impl Iterator<Item = PathBuf> {
        let lock = beside(&self.target, LOCK);
        [self.target.clone(), self.work(), lock].into_iter()
    }

    /// The path of the work directory, whether or not it exists.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        beside(&self.target, WORK)
    }
}

const WORK: &str = ".compress-work";
const LOCK: &str = ".compress-lock";

/// Device and inode of a folder: they tell it from every other folder while it exists, and stay the
/// same under a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of a folder; none where it does not exist.
    #[cfg(unix)]
    pub fn of(folder: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = folder.symlink_metadata().ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// None, where the system has no such numbers.
    #[cfg(not(unix))]
    pub fn of(_: &Path) -> Option<Self> {
        None
    }
}

/// Whether a folder is a mount point, which cannot be renamed.
fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| Identity::of(path).map(|it| it.device);
    let own = device(folder);
    own.is_some() && folder.parent().is_some_and(|parent| device(parent) != own)
}

/// The absolute path without links of something that need not exist, nor need its folders. None for
/// a path such as `..` of a folder that is not there.
#[must_use]
pub fn resolved(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| {
        let (parent, name) = split(path)?;
        Some(resolved(parent)?.join(name))
    })
}

/// The absolute path of something that need not exist, in a folder that must; the last component is
/// not followed if it is a link.
fn named(path: &Path) -> Result<PathBuf> {
    let (parent, name) =
        split(path).ok_or_else(|| refused(path)("not a name for a directory".into()))?;
    if !parent.exists() {
        let problem = format!(
            "the folder {} is not there; create it first",
            parent.display()
        );
        return Err(refused(path)(problem));
    }
    let parent = parent.canonicalize().map_err(Error::io(parent))?;
    Ok(parent.join(name))
}

/// The folder of a path and its last component; none for `/` and paths that end in `..`.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let (parent, name) = (path.parent()?, path.file_name()?);
    let here = parent.as_os_str().is_empty();
    Some((if here { Path::new(".") } else { parent }, name))
}

/// The path with a suffix: a sibling on the same file system.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The error that a path cannot be written to.
fn refused(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_owned();
    move |problem| Error::Output {
        path: path.clone(),
        problem,
    }
}

/// Fails, in words, where an output at `target` would overwrite an input or lie inside an input
/// model.
fn guard(target: &Path, work: &Path, input: Input<'_>) -> std::result::Result<(), String> {
    let (Input::Model(path) | Input::Other(path)) = input;
    // Both the path as given and the path it resolves to: replacing the link loses the input as
    // well as replacing the folder behind it.
    for place in [named(path).ok(), resolved(path)].into_iter().flatten() {
        let shown = place.display();
        // An output within the source would be copied or loaded as part of it.
        if matches!(input, Input::Model(_)) && target.starts_with(&place) {
            return Err(format!(
                "lies inside the input {shown}; choose another place"
            ));
        }
        if place.starts_with(target) || place.starts_with(work) {
            return Err(format!("contains the input {shown}; choose another place"));
        }
    }
    Ok(())
}

/// Whether `--force` may replace a directory: an empty one, or one whose `compression.json` parses,
/// so that a mistyped path never costs anything else.
fn replaceable(target: &Path) -> bool {
    let empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    let recorded = || {
        let record = fs::read(target.join(record::FILE)).ok()?;
        serde_json::from_slice::<Record>(&record).ok()
    };
    recorded().is_some() || empty()
}

/// Renames a folder to a name that must be free. Where the system has no such rename, a plain one,
/// which fails on anything but an empty directory.
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(error) if is_unsupported(error.kind()) => {}
            outcome => return Ok(outcome?),
        }
    }
    fs::rename(from, to)
}

/// Exchanges two names atomically. False, with nothing changed, where the system or file system
/// cannot.
fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Err(error) if is_unsupported(error.kind()) => {}
            outcome => return outcome.map(|()| true).map_err(Into::into),
        }
    }
    Ok(false)
}

/// The errors of file systems without flags for rename (such as some network file systems).
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn is_unsupported(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}
