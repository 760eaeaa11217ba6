//! What the command-line tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use assert_cmd::Command;
use tempfile::TempDir;

/// A file or folder under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// A folder that goes when the test ends.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A copy of a fixture's checkpoint, to be damaged.
pub fn copy(name: &str) -> TempDir {
    let to = folder();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Runs `compress`.
pub fn compress(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

/// `compress`, to be given arguments.
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_compress"))
}

/// Runs `compress`, and kills it after a while.
pub fn kill_after<S: AsRef<std::ffi::OsStr>>(time: Duration, arguments: &[S]) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_compress"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What a run printed on stdout; fails with its stderr unless it succeeded.
pub fn success(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
