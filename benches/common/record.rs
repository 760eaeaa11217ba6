//! The record: what a bench found, as lines of `benches/record/MACHINE/DATE.csv`.
//!
//! Columns: bench, model or shape, form, device, quantity, value, unit, commit. Times are the medians that criterion
//! has estimated. Where nothing was timed (`--test`, `--list`), nothing is recorded.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// Model or shape, form, device and quantity.
pub type Case = [String; 4];

/// What a bench has measured so far.
pub struct Record {
    pub bench: &'static str,
    /// What was timed: criterion's name of it, and the tokens that one run takes.
    pub times: Vec<(String, Case, Option<u64>)>,
    /// Other figures.
    pub values: Vec<(Case, f64)>,
    /// Estimates of earlier runs are no part of this one.
    begin: SystemTime,
}

impl Record {
    pub fn new(bench: &'static str) -> Self {
        Self {
            bench,
            times: Vec::new(),
            values: Vec::new(),
            begin: SystemTime::now(),
        }
    }

    /// Appends the lines of this run, and says to which file; none where nothing was timed.
    pub fn write(&self, criterion: &Path) -> Result<Option<PathBuf>> {
        let mut seconds = BTreeMap::new();
        self.estimates(criterion, &mut seconds);
        if seconds.is_empty() {
            return Ok(None);
        }
        let timed = self.times.iter().filter_map(|(id, case, tokens)| {
            let seconds = seconds.get(id)?;
            Some(match tokens {
                Some(tokens) => (case, *tokens as f64 / seconds, "tokens/s"),
                None => (case, seconds * 1e3, "ms"),
            })
        });
        let values = self.values.iter().map(|(case, value)| (case, *value, ""));
        let commit = commit();
        let lines: String = timed
            .chain(values)
            .map(|(case, value, unit)| self.line(case, value, unit, &commit))
            .collect();

        let folder = folder().join(machine());
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.csv", date(SystemTime::now())));
        let header = "bench,model or shape,form,device,quantity,value,unit,commit\n";
        let header = if path.exists() { "" } else { header };
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(format!("{header}{lines}").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(path))
    }

    fn line(&self, case: &Case, value: f64, unit: &str, commit: &str) -> String {
        // No field of ours has a comma in it but names of devices and files may.
        let [subject, form, device, quantity] = case.each_ref().map(|text| text.replace(',', " "));
        let bench = self.bench;
        // Six significant digits, whatever the size.
        let digits = (5 - value.abs().max(1e-12).log10().floor() as i32).clamp(0, 12) as usize;
        format!("{bench},{subject},{form},{device},{quantity},{value:.digits$},{unit},{commit}\n")
    }

    /// The median of everything that criterion has timed in this run, by its name, from below a folder.
    fn estimates(&self, folder: &Path, found: &mut BTreeMap<String, f64>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("new") {
                found.extend(self.estimate(&path));
            } else if path.is_dir() {
                self.estimates(&path, found);
            }
        }
    }

    /// The name of a benchmark, and its median in seconds; none where it is of an earlier run.
    fn estimate(&self, folder: &Path) -> Option<(String, f64)> {
        let read = |name: &str| -> Option<Value> {
            let path = folder.join(name);
            let changed = path.metadata().ok()?.modified().ok()?;
            let text = (changed >= self.begin).then(|| fs::read(&path).ok())??;
            serde_json::from_slice(&text).ok()
        };
        let name = read("benchmark.json")?["full_id"].as_str()?.to_owned();
        let nanoseconds = read("estimates.json")?["median"]["point_estimate"].as_f64()?;
        Some((name, nanoseconds / 1e9))
    }
}

/// Where records lie.
fn folder() -> PathBuf {
    let usual = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../benches/record");
    std::env::var_os("COMPRESS_RECORD").map_or_else(usual, PathBuf::from)
}

/// A name for this machine: the processor's, and how many threads were used.
fn machine() -> String {
    let asked = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(asked);
    let brand = system.cpus().first().map_or("", |cpu| cpu.brand());
    let brand = brand.to_lowercase();
    // Behind the @ some have their clock rate, which the model's name implies.
    let name = brand.split('@').next().unwrap_or_default();
    let noise = ["", "r", "tm", "cpu", "processor"];
    let mut words: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !noise.contains(word))
        .collect();
    if words.is_empty() {
        words.push("unknown");
    }
    format!(
        "{}-{}-threads",
        words.join("-"),
        rayon::current_num_threads()
    )
}

/// The commit that was measured, marked where files differ from it.
fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

/// The day of a time in UTC, as 2026-01-31.
fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let days = since.map_or(0, |time| time.as_secs() / 86_400);
    // Howard Hinnant's `civil_from_days`, counted from 0000-03-01, so that leap days end years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
