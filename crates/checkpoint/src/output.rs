//! Where an output goes, and whether it may go there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Checkpoint, Error, Result, record};

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
        // A link that leads nowhere is in the way as well.
        if target.symlink_metadata().is_ok() {
            if !force {
                let way_out = "exists already; give another name, or --force to replace it";
                return problem(way_out.into());
            }
            if !replaceable(&target) {
                let reason = "is no output of this program, so it is not replaced even by force";
                return problem(reason.into());
            }
        }
        Ok(Self { target, force })
    }

    /// Puts the work directory in the target's place. What was there is removed last, so that a
    /// kill at any moment leaves the old output or the new one.
    pub(crate) fn replace(&self) -> Result<()> {
        let old = self.beside(".compress-old");
        if self.target.symlink_metadata().is_ok() {
            if !self.force || !replaceable(&self.target) {
                let problem = "has appeared meanwhile; the finished model is in the work directory";
                return Err(Error::Output {
                    path: self.target.clone(),
                    problem: problem.into(),
                });
            }
            fs::rename(&self.target, &old).map_err(Error::io(&old))?;
        }
        fs::rename(self.work(), &self.target).map_err(Error::io(&self.target))?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(Error::io(&old))?;
        }
        Ok(())
    }

    /// Whether what is there may be replaced.
    pub(crate) const fn force(&self) -> bool {
        self.force
    }

    /// The work directory: the target's name with `.compress-work` after it.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.beside(".compress-work")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.target.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

/// Only an empty directory or an earlier output may be replaced.
fn replaceable(target: &Path) -> bool {
    let empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    target.join(record::FILE).is_file() || empty()
}
