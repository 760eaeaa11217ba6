//! A lock file beside an output, so that two runs never write to one place.
//!
//! The lock is the system's (`flock` or its equivalent) on a file beside the output, outside
//! anything that a run creates, moves or removes. It can thus be taken before the target is
//! inspected, and held beyond the last rename. The system releases it when the process ends in any
//! way, so a file left by a killed run is no lock. The file holds `process ID, COMMAND` for the
//! message to others.

use std::{
    env,
    fs::{self, File, TryLockError},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use crate::{Error, Result, write::journal::open_to_write};

/// A lock that is held until the value is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// Attempts at a lock whose file keeps disappearing between opening and locking it.
const ATTEMPTS: usize = 100;

impl Lock {
    /// Takes the lock without waiting. Fails with [`Error::Output`] where another process holds it,
    /// which the message names, or where a file of somebody else is at `path`. `what` is the
    /// protected path, for the message.
    pub fn take(path: &Path, what: &Path) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            // Before opening: opening creates the file.
            check_ours(path)?;
            let file = open_to_write(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held(path, what)),
                Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
            }
            // The last holder may have removed the file between our opening and our locking it:
            // then this locks a file without a name, which keeps nobody out.
            if is_at(&file, path) {
                let mut lock = Self {
                    path: path.into(),
                    file,
                };
                lock.sign()?;
                return Ok(lock);
            }
        }
        Err(held(path, what))
    }

    /// Writes the process id and the command line into the file, for the message of those who find
    /// it locked.
    fn sign(&mut self) -> Result<()> {
        let words: Vec<String> = env::args_os()
            .map(|word| word.to_string_lossy().into())
            .collect();
        let holder = format!("{SIGNATURE}{}, `{}`\n", process::id(), words.join(" "));
        // The file may hold the signature of a killed run.
        let signed = self.file.set_len(0);
        let signed = signed.and_then(|()| self.file.write_all(holder.as_bytes()));
        signed.map_err(Error::io(&self.path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still locked, so that it cannot be a file that the next holder has made. If
        // removal fails, the file stays and locks nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// The first bytes of a lock file.
const SIGNATURE: &str = "process ";

/// Refuses a file that is not a lock of this program: the content of a lock file is overwritten,
/// and the file removed in the end.
fn check_ours(path: &Path) -> Result<()> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    let begins = || {
        let mut start = Vec::new();
        let file = File::open(path)?;
        file.take(SIGNATURE.len() as u64).read_to_end(&mut start)?;
        // A prefix is enough: a run may have been killed before it had signed.
        Ok(SIGNATURE.as_bytes().starts_with(&start))
    };
    if found.is_file() && begins().map_err(Error::io(path))? {
        return Ok(());
    }
    Err(Error::Output {
        path: path.into(),
        problem: "is in the place of a lock, but no lock; move it away".into(),
    })
}

/// The error that another process holds the lock, with its signature if that can be read within a
/// tenth of a second.
fn held(path: &Path, what: &Path) -> Error {
    let signed = || {
        let mut holder = String::new();
        File::open(path)
            .and_then(|mut file| file.read_to_string(&mut holder))
            .ok()?;
        holder.strip_suffix('\n').map(str::to_owned)
    };
    // A process that has just taken the lock may not have signed yet.
    let holder = (0..PATIENCE).find_map(|_| {
        signed().or_else(|| {
            thread::sleep(Duration::from_millis(2));
            None
        })
    });
    let holder = holder.unwrap_or_else(|| "another run".into());
    Error::Output {
        path: what.into(),
        problem: format!("{holder} is writing here; wait for it, or choose another output"),
    }
}

/// Attempts to read the holder's signature, 2 ms apart.
const PATIENCE: usize = 50;

/// Whether an open file is still the one at `path`, and not removed or replaced since.
#[cfg(unix)]
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Always true: elsewhere an open file cannot be removed.
#[cfg(not(unix))]
#[must_use]
pub fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_holds_the_lock_and_a_left_file_holds_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (path, what) = (place.path().join("lock"), place.path().join("out"));
        fs::write(&path, "process 1, of a run that was killed").unwrap();
        let lock = Lock::take(&path, &what).unwrap();
        let error = Lock::take(&path, &what).unwrap_err().to_string();
        let holder = format!("process {}", process::id());
        assert!(error.contains(&holder) && error.contains("out"), "{error}");
        drop(lock);
        assert!(!path.exists());
        drop(Lock::take(&path, &what).unwrap());
    }

    #[test]
    fn of_many_who_try_at_once_one_at_a_time_has_it() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(lock) = Lock::take(&path, &path) else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }
}
