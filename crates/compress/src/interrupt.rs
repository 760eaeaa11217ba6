//! Interrupts: the process says what it leaves behind, so that the run can go on.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

static NEWS: Mutex<Option<String>> = Mutex::new(None);
static PASSING: Mutex<Vec<(PathBuf, Option<PathBuf>)>> = Mutex::new(Vec::new());

/// How often the removal of a folder is tried.
const ATTEMPTS: usize = 20;

/// Ends the process with status 2 at Ctrl-C and the like, and says what stays.
pub fn watch() {
    let handler = || {
        let news = held(&NEWS).take();
        let news = news.map_or_else(String::new, |news| format!("; {news}"));
        tell!("\nerror: interrupted{news}");
        for (folder, lock) in held(&PASSING).drain(..) {
            // Other threads may still be making files in it.
            let gone = || fs::remove_dir_all(&folder).is_ok() || !folder.exists();
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

/// Sets the message of an interrupt: what is there, and how to go on.
pub fn say(news: Option<String>) {
    *held(&NEWS) = news;
}

/// A folder that an interrupt removes, and then its lock where it has one.
pub fn remove(folder: PathBuf, lock: Option<PathBuf>) {
    held(&PASSING).push((folder, lock));
}

fn held<T>(value: &'static Mutex<T>) -> MutexGuard<'static, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
