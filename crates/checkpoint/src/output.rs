//! Where an output goes, and whether it may go there.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::{Checkpoint, Error, Result};

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

    /// The directory to be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Whether what is there may be replaced.
    pub(crate) const fn force(&self) -> bool {
        self.force
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
