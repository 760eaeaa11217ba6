//! Interrupts: the process says what it leaves behind, so that the run can go on.
//!
//! `std::process::exit` drops nothing, so that folders that go with their commands are removed here. A run's own
//! state needs nothing of that: what its journal vouches for is on disk.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The message of an interrupt, after the word that it was one.
static NEWS: Mutex<Option<String>> = Mutex::new(None);
/// Folders to remove, each with its lock where it has one.
static PASSING: Mutex<Vec<(PathBuf, Option<PathBuf>)>> = Mutex::new(Vec::new());

/// How often the removal of a folder is tried.
const ATTEMPTS: usize = 20;

/// Ends the process with status 2 at Ctrl-C and the like, and says what stays. Without a handler the program runs all
/// the same, and ends without a word.
pub fn watch() {
    let handler = || {
        let news = held(&NEWS).take();
        let news = news.map_or_else(String::new, |news| format!("; {news}"));
        tell!("\nerror: interrupted{news}");
        for (folder, lock) in held(&PASSING).drain(..) {
            // Other threads may still be making files in it.
            let gone = || fs::remove_dir_all(&folder).is_ok() || !folder.exists();
            // The lock goes last: until then no other run takes the folder for one that was left.
            if (0..ATTEMPTS).any(|_| gone())
                && let Some(lock) = lock
            {
                // What is left of both is removed by a later run.
                let _ = fs::remove_file(lock);
            }
        }
        std::process::exit(2);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tell!("warning: interrupts end this program without a word: {error}");
    }
}

/// Sets the message of an interrupt: what is there, and how to go on. None where there is nothing to tell.
pub fn say(news: Option<String>) {
    *held(&NEWS) = news;
}

/// Sets another message where there is one.
pub fn say_instead(news: String) {
    if let Some(before) = &mut *held(&NEWS) {
        *before = news;
    }
}

/// A folder that an interrupt removes, and then its lock where it has one.
pub fn remove(folder: PathBuf, lock: Option<PathBuf>) {
    held(&PASSING).push((folder, lock));
}

/// The value under a lock, also where a thread has failed while it held it: an interrupt has to be told of in any
/// case.
fn held<T>(value: &'static Mutex<T>) -> MutexGuard<'static, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
