//! What an interrupt leaves behind is named, so that the run can go on.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

static NEWS: Mutex<Option<String>> = Mutex::new(None);
static PASSING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Ends the process with status 2 at Ctrl-C and the like, and says what stays.
pub fn watch() {
    let handler = || {
        match &*held(&NEWS) {
            Some(news) => eprintln!("\nerror: interrupted; {news}"),
            None => eprintln!("\nerror: interrupted"),
        }
        for path in held(&PASSING).drain(..) {
            // The process ends; what cannot be removed now is removed by a later run.
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
        std::process::exit(2);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: interrupts end this program without a word: {error}");
    }
}

/// What an interrupt says from now on, of what is there and how to go on.
pub fn say(news: Option<String>) {
    *held(&NEWS) = news;
}

/// A folder or file that an interrupt removes.
pub fn remove(path: PathBuf) {
    held(&PASSING).push(path);
}

fn held<T>(value: &'static Mutex<T>) -> MutexGuard<'static, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
