//! Where an output goes, whether it may go there, and giving it its name.
//!
//! ```text
//! OUT                  the output; it appears, whole, by one rename
//! OUT.compress-work    the same until then, and what a killed run goes on from
//! OUT.compress-lock    held by the run that writes to OUT
//! ```

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

/// A path that the run reads and so must never replace.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A model: nothing is written into its folder.
    Model(&'a Path),
    /// Anything else: a text, a plan, a folder of measurements.
    Other(&'a Path),
}

/// A directory to be, which no other run writes to as long as this value is there.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    force: bool,
    _lock: Lock,
}

impl Output {
    /// Claims `target`: it must not lie inside a model of the inputs, must not contain any of them, and may
    /// exist only with `force`, as an earlier output or an empty directory.
    pub fn claim(target: &Path, force: bool, inputs: &[Input<'_>]) -> Result<Self> {
        let target = named(target)?;
        let work = beside(&target, WORK);
        for input in inputs {
            guard(&target, &work, *input).map_err(refused(&target))?;
        }
        let lock = Lock::take(&beside(&target, LOCK), &target)?;
        // A run that was killed between its rename and its tidying up is done, and leaves only this.
        if work::is_published(&work, &target) {
            fs::remove_dir_all(&work).map_err(Error::io(&work))?;
        }
        // A link that leads nowhere is in the way as well.
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

    /// Puts a finished model in the target's place. Where an earlier output is replaced, both names are
    /// exchanged in one step, so that there is a whole model at any moment; the old one is then in `model`'s
    /// place, or at `spare` where the file system cannot exchange names.
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
                // Rather the old output than none; should this fail as well, the error names the place.
                fs::rename(spare, &self.target).map_err(Error::io(spare))?;
                return Err(Error::io(&self.target)(error));
            }
        }
        self.target.parent().map_or(Ok(()), durable::sync_folder)
    }

    /// Where it will be.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Whether what is there may be replaced.
    pub(crate) const fn force(&self) -> bool {
        self.force
    }

    /// All that it writes to, now and at the end.
    pub fn places(&self) -> impl Iterator<Item = PathBuf> {
        let lock = beside(&self.target, LOCK);
        [self.target.clone(), self.work(), lock].into_iter()
    }

    /// The work directory.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        beside(&self.target, WORK)
    }
}

const WORK: &str = ".compress-work";
const LOCK: &str = ".compress-lock";

/// The identity of a folder, which it keeps when it is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// That of a folder; none where there is no such folder, or the system has no such numbers.
    #[cfg(unix)]
    pub fn of(folder: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = folder.symlink_metadata().ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// That of a folder; none where there is no such folder, or the system has no such numbers.
    #[cfg(not(unix))]
    pub fn of(_: &Path) -> Option<Self> {
        None
    }
}

/// Whether a folder is the top of another file system than that it lies in.
fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| Identity::of(path).map(|it| it.device);
    let own = device(folder);
    own.is_some() && folder.parent().is_some_and(|parent| device(parent) != own)
}

/// The absolute path of something that need not exist, whose folders need not exist either.
#[must_use]
pub fn resolved(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| {
        let (parent, name) = split(path)?;
        Some(resolved(parent)?.join(name))
    })
}

/// The absolute path of something that need not exist, in a folder that must.
fn named(path: &Path) -> Result<PathBuf> {
    let (parent, name) =
        split(path).ok_or_else(|| refused(path)("not a name for a directory".into()))?;
    let parent = parent.canonicalize().map_err(Error::io(parent))?;
    Ok(parent.join(name))
}

/// The folder that something lies in, and its name there.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let (parent, name) = (path.parent()?, path.file_name()?);
    let here = parent.as_os_str().is_empty();
    Some((if here { Path::new(".") } else { parent }, name))
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn refused(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_owned();
    move |problem| Error::Output {
        path: path.clone(),
        problem,
    }
}

/// In words what an output at `target` would do to an input.
fn guard(target: &Path, work: &Path, input: Input<'_>) -> std::result::Result<(), String> {
    let (Input::Model(path) | Input::Other(path)) = input;
    // As it is called, and where that leads: a link may be replaced just as what it leads to.
    for place in [named(path).ok(), resolved(path)].into_iter().flatten() {
        let shown = place.display();
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

/// Only an empty directory or an earlier output may be replaced.
fn replaceable(target: &Path) -> bool {
    let empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    let recorded = || {
        let record = fs::read(target.join(record::FILE)).ok()?;
        serde_json::from_slice::<Record>(&record).ok()
    };
    recorded().is_some() || empty()
}

/// Renames a folder to a name that nothing has.
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

/// Exchanges the names of two folders in one step; false, and nothing done, where the system cannot.
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

/// The answers of file systems that cannot exchange two names.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn is_unsupported(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}
