//! `compress cache`: the evidence that is kept between runs, and removing it.
//!
//! Folders of running commands (`passing`) are not listed: they go with their commands.

use std::time::Duration;

use anyhow::Result;
use compress_calibrate::{Kept, kept, remove_unused};
use serde_json::{Value, json};

use crate::{Outcome, args::Cache, cache, report};

/// Lists the stores of evidence, those used last first; with `--clear`, removes those that no run uses.
pub fn run(job: &Cache) -> Result<Outcome> {
    let folder = cache::folder("evidence")?;
    let mut stores = kept(&folder)?;
    // Before anything is removed: the difference is what was freed.
    let before: u64 = stores.iter().map(|store| store.bytes).sum();
    if job.clear {
        // Those that a run uses stay, and are listed.
        let mut used = Vec::new();
        for store in stores {
            if !remove_unused(&store.folder)? {
                used.push(store);
            }
        }
        stores = used;
    }
    let bytes: u64 = stores.iter().map(|store| store.bytes).sum();
    if job.printing.json {
        let stores: Vec<Value> = stores.iter().map(describe).collect();
        let told = json!({ "folder": folder, "bytes": bytes, "removed": before - bytes, "evidence": stores });
        return report::print(told).map(|()| Outcome::Kept);
    }
    let mut table = report::plain(["evidence", "bytes", "last used"]);
    for store in &stores {
        let name = store.folder.file_name().unwrap_or_default();
        table.add_row([
            name.to_string_lossy().into_owned(),
            report::size(store.bytes as usize),
            format!("{} ago", ago(store.age)),
        ]);
    }
    if !stores.is_empty() {
        report::print(report::fitted(table))?;
    }
    let size = |bytes: u64| report::size(bytes as usize);
    report::print(format_args!("{}: {}", folder.display(), size(bytes)))?;
    if job.clear {
        report::print(format_args!("removed {}", size(before - bytes)))?;
    }
    Ok(Outcome::Kept)
}

/// A store, for programs.
fn describe(store: &Kept) -> Value {
    json!({ "folder": store.folder, "bytes": store.bytes, "seconds_since_use": store.age.as_secs() })
}

/// A length of time in the largest unit of which there are at least two.
fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let unit = units.into_iter().find(|(size, _)| seconds >= 2 * size);
    let (size, name) = unit.unwrap_or((1, "seconds"));
    format!("{} {name}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_a_unit_that_fits() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }
}
