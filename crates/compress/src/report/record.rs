//! A comparison that was kept, as `compare --json` prints it: a document's tables and pictures are made of it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::comparison::Row;

/// A comparison.
#[derive(Debug, Deserialize)]
pub struct Record {
    /// The command that made it.
    pub command: String,
    /// The processor, its threads, and the version of this program.
    #[serde(default)]
    pub machine: Value,
    /// The original's figures.
    pub original: Value,
    /// The text, and how it was cut.
    pub text: Value,
    /// Each variant's name, command and figures.
    pub variants: Vec<Row>,
}

impl Record {
    /// Reads a record; fails where it has no figures.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let record: Self = serde_json::from_str(&text).with_context(|| {
            format!("{name} is no record of a comparison; `compress compare … --json` prints one")
        })?;
        ensure!(
            record.first().is_some(),
            "{name} has no figures: every variant failed"
        );
        Ok(record)
    }

    /// The report of the first variant that has one: what it says of original and texts holds for all.
    pub fn first(&self) -> Option<&Value> {
        self.variants.iter().find_map(Row::report)
    }

    /// Keeps some variants only, in the order in which they are named. No names are all variants.
    pub fn choose(&mut self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.variants);
        for name in names {
            let place = all.iter().position(|row| row.name == *name);
            let place = place.with_context(|| format!("the record has no variant `{name}`"))?;
            self.variants.push(all.remove(place));
        }
        Ok(())
    }
}
