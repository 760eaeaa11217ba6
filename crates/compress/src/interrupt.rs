//! What an interrupt leaves behind is named, so that the run can go on.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

static WORK: Mutex<Option<PathBuf>> = Mutex::new(None);
static UNPACKED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Ends the process with status 2 at Ctrl-C, naming the work directory if there is one.
pub fn watch() {
    let handler = || {
        match WORK
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_deref()
        {
            Some(work) => eprintln!(
                "\nerror: interrupted; {} stays, and the same command goes on from there",
                work.display()
            ),
            None => eprintln!("\nerror: interrupted"),
        }
        if let Some(folder) = UNPACKED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            // The process ends; a folder that cannot be removed is left to the system.
            let _ = std::fs::remove_dir_all(folder);
        }
        std::process::exit(2);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: interrupts end this program without a word: {error}");
    }
}

/// Names the work directory of the run under way; none once it is finished.
pub fn work_directory(path: Option<PathBuf>) {
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = path;
}

/// The shipped model's folder, which an interrupt removes.
pub fn unpacked(folder: PathBuf) {
    *UNPACKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
}
