//! `compress report FILE.md...`: what stands between markers is made anew from records of comparisons.
//!
//! ```text
//! <!-- record: ../benches/results/stories15m.json | plot: stories15m.svg -->
//! the command, the table and the picture of that record: whatever stood here is overwritten
//! <!-- end of record -->
//! ```
//!
//! Paths are seen from the Markdown file. `only: NAME, NAME` takes some variants, `columns: NAME, NAME` some columns, and
//! `command: no` leaves the command out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    Outcome,
    args::Report,
    plot, report,
    report::{
        columns::Column,
        markdown::{self, Request},
        record::Record,
    },
    side,
};

/// The end of what a marker begins.
const END: &str = "<!-- end of record -->";

/// Fills the files; or tells which are not as their records have it.
pub fn run(job: &Report) -> Result<Outcome> {
    let mut outcome = Outcome::Kept;
    for file in &job.files {
        for (path, text) in filled(file)? {
            // A picture that is not there yet is not as it should be, either.
            if fs::read_to_string(&path).is_ok_and(|found| found == text) {
                continue;
            }
            let name = path.display();
            if job.check {
                report::print(format_args!(
                    "{name} is not what its records say; `compress report {}` makes it so",
                    file.display()
                ))?;
                outcome = Outcome::Broken;
            } else {
                side::write(&path, &text).with_context(|| format!("cannot write {name}"))?;
                report::print(format_args!("{name} is made anew"))?;
            }
        }
    }
    Ok(outcome)
}

/// A Markdown file and its pictures, as they should be.
fn filled(file: &Path) -> Result<Vec<(PathBuf, String)>> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let (mut made, mut files) = (String::new(), Vec::new());
    let mut lines = text.split_inclusive('\n').enumerate();
    let mut fenced = false;
    while let Some((number, line)) = lines.next() {
        made.push_str(line);
        // A document may show what a marker looks like.
        fenced ^= line.trim_start().starts_with("```");
        let Some(asked) = marker(line).filter(|_| !fenced) else {
            continue;
        };
        let place = || format!("{name}, line {}", number + 1);
        let (block, picture) = answer(asked, folder).with_context(place)?;
        let end = lines.find(|(_, line)| line.trim() == END || marker(line).is_some());
        let end = end.filter(|(_, line)| line.trim() == END);
        let (_, end) = end.with_context(|| format!("{}: no `{END}` follows", place()))?;
        // As the lines around it end.
        let block = if line.ends_with("\r\n") {
            block.replace('\n', "\r\n")
        } else {
            block
        };
        made = made + &block + end;
        files.extend(picture);
    }
    files.push((file.to_owned(), made));
    Ok(files)
}

/// What a line asks for, if it is a marker.
fn marker(line: &str) -> Option<&str> {
    let line = line.trim().strip_prefix("<!-- record:")?;
    line.strip_suffix("-->").map(str::trim)
}

/// The text that a marker asks for; and its picture, if it asks for one.
fn answer(asked: &str, folder: &Path) -> Result<(String, Option<(PathBuf, String)>)> {
    let mut parts = asked.split('|').map(str::trim);
    let mut record = Record::read(&folder.join(parts.next().unwrap_or_default()))?;
    let mut request = Request {
        columns: Vec::new(),
        plot: None,
        command: true,
    };
    for part in parts {
        let (key, value) = part.split_once(':').unwrap_or((part, ""));
        let value = value.trim();
        let names = || value.split(',').map(|name| name.trim().to_owned());
        match key.trim() {
            "only" => record.choose(&names().collect::<Vec<_>>())?,
            "columns" => {
                request.columns = names()
                    .map(|name| Column::named(&name))
                    .collect::<Result<_>>()?
            }
            "plot" => {
                ensure!(
                    Path::new(value).extension().is_some_and(|it| it == "svg"),
                    "`plot: {value}`: a picture is called FILE.svg"
                );
                request.plot = Some(value.to_owned());
            }
            "command" if value == "no" => request.command = false,
            _ => bail!("`{part}` is none of only, columns, plot, and command: no"),
        }
    }
    let picture = match &request.plot {
        Some(plot) => Some((folder.join(plot), plot::comparison::svg(&record.variants)?)),
        None => None,
    };
    Ok((markdown::block(&record, &request)?, picture))
}
