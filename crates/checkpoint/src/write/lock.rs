//! A lock beside an output, so that two runs never write to one place.
//!
//! It is a file beside the output, not within anything that a run creates, moves or removes: so it can be
//! taken before the first look at what is there, and held until the last rename is done. The system lets
//! go of it when its process ends, however that ends; a file that a killed run has left is no lock.

use std::{
    env,
    fs::{self, File, TryLockError},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use crate::{Error, Result, write::journal::open_to_write};

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// How often a lock is tried again whose file was removed while it was being taken.
const ATTEMPTS: usize = 100;

impl Lock {
    /// Takes the lock, or says who holds it. `what` is what it protects, for the message.
    pub fn take(path: &Path, what: &Path) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            check_ours(path)?;
            let file = open_to_write(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held(path, what)),
                Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
            }
            // The last holder may have removed the file between our opening and our locking it: then
            // this locks a file without a name, which keeps nobody out.
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

    /// Writes who holds it, for those who come too late.
    fn sign(&mut self) -> Result<()> {
        let words: Vec<String> = env::args_os()
            .map(|word| word.to_string_lossy().into())
            .collect();
        let holder = format!("{SIGNATURE}{}, `{}`\n", process::id(), words.join(" "));
        let signed = self.file.set_len(0);
        let signed = signed.and_then(|()| self.file.write_all(holder.as_bytes()));
        signed.map_err(Error::io(&self.path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked still, so that nobody else's is removed. A file that stays is no lock.
        let _ = fs::remove_file(&self.path);
    }
}

/// The first bytes of a lock file of ours.
const SIGNATURE: &str = "process ";

/// Refuses a file that no run has made: a lock's contents are written over, and it is removed in the end.
fn check_ours(path: &Path) -> Result<()> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    let begins = || {
        let mut start = Vec::new();
        let file = File::open(path)?;
        file.take(SIGNATURE.len() as u64).read_to_end(&mut start)?;
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

fn held(path: &Path, what: &Path) -> Error {
    let signed = || {
        let mut holder = String::new();
        File::open(path)
            .and_then(|mut file| file.read_to_string(&mut holder))
            .ok()?;
        holder.strip_suffix('\n').map(str::to_owned)
    };
    // Whoever has just taken it may not have signed yet.
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

/// How often a holder's signature is looked for.
const PATIENCE: usize = 50;

/// Whether a path still leads to an open file.
#[cfg(unix)]
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere a file that is open cannot be removed.
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
