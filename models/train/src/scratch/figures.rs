//! What runs gave: a table in the paper's order, and their curves.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use compress_chart::{Axis, Chart, Line, Look, Scale};
use serde_json::Value;

use super::attention::Attention;

/// A run that is done.
pub struct Done {
    attention: Attention,
    seed: u64,
    about: Value,
    /// Steps and held-out losses.
    curve: Vec<(f64, f64)>,
}

/// Prints the table of all runs in a folder that are done, and draws their curves.
pub fn show(runs: &Path, svg: Option<&Path>) -> Result<()> {
    let all = read_all(runs)?;
    ensure!(!all.is_empty(), "no run in {} is done", runs.display());
    print!("{}", table(&all));
    match svg {
        Some(path) => draw(path, &all),
        None => Ok(()),
    }
}

/// The runs in a folder that are done, in the paper's order.
pub fn read_all(runs: &Path) -> Result<Vec<Done>> {
    let mut all = Vec::new();
    let entries = fs::read_dir(runs).with_context(|| format!("cannot read {}", runs.display()))?;
    for entry in entries {
        let folder = entry?.path();
        if folder.join("model").exists() && folder.join("run.json").exists() {
            all.push(read(&folder)?);
        }
    }
    all.sort_by_key(|run| (run.attention, run.seed));
    Ok(all)
}

/// Reads a run.
fn read(folder: &Path) -> Result<Done> {
    let text = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let damaged = |name| format!("{}/{name} is damaged", folder.display());
    let about: Value = serde_json::from_str(&text("run.json")?)?;
    let attention = about["attention"].as_str().unwrap_or_default();
    let looks = text("curve.csv")?;
    let looks = looks.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(',');
        let (step, held_out) = (fields.next()?, fields.nth(2)?);
        Some((step.parse().ok()?, held_out.parse().ok()?))
    });
    let curve: Vec<(f64, f64)> = looks.collect();
    ensure!(!curve.is_empty(), damaged("curve.csv"));
    Ok(Done {
        attention: attention.parse().with_context(|| damaged("run.json"))?,
        seed: about["seed"]
            .as_u64()
            .with_context(|| damaged("run.json"))?,
        about,
        curve,
    })
}

impl Done {
    /// The perplexity of the held-out text in the end.
    fn perplexity(&self) -> f64 {
        self.curve.last().map_or(f64::NAN, |(_, loss)| loss.exp())
    }

    /// A number of `run.json`.
    fn number(&self, key: &str) -> u64 {
        self.about[key].as_u64().unwrap_or_default()
    }
}

/// The table, a row for each attention.
pub fn table(runs: &[Done]) -> String {
    let mut seeds: Vec<u64> = runs.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let heads = seeds.iter().map(|seed| format!(" seed {seed} |"));
    let heads = heads.collect::<Vec<_>>().concat();
    let mut text = format!(
        "| attention | attention parameters | of dense | parameters | tokens |{heads} mean | spread |\n|---|---|---|---|---|{}---|---|\n",
        "---|".repeat(seeds.len())
    );
    let mut rows: BTreeMap<Attention, Vec<&Done>> = BTreeMap::new();
    for run in runs {
        rows.entry(run.attention).or_default().push(run);
    }
    let dense = rows.get(&Attention::Dense).and_then(|runs| runs.first());
    let dense = dense.map(|run| run.number("attention_parameters") as f64);
    for (attention, runs) in rows {
        let [one, ..] = runs.as_slice() else { continue };
        let own = one.number("attention_parameters");
        let share = dense.map_or_else(String::new, |dense| {
            format!("{:.1} %", 100.0 * own as f64 / dense)
        });
        let of_seed = |seed: &u64| {
            let run = runs.iter().find(|run| run.seed == *seed);
            run.map_or_else(|| " |".into(), |run| format!(" {:.3} |", run.perplexity()))
        };
        let each = seeds.iter().map(of_seed).collect::<Vec<_>>().concat();
        let found = || runs.iter().map(|run| run.perplexity());
        let mean = found().sum::<f64>() / runs.len() as f64;
        let spread = found().fold(f64::MIN, f64::max) - found().fold(f64::MAX, f64::min);
        let (parameters, tokens) = (one.number("parameters"), one.number("tokens"));
        let row = format!("| {attention} | {own} | {share} | {parameters} | {tokens} |{each}");
        text = text + &row + &format!(" {mean:.3} | {spread:.3} |\n");
    }
    text
}

/// Draws the held-out losses against steps, all seeds of an attention in one colour.
fn draw(path: &Path, runs: &[Done]) -> Result<()> {
    let all = runs.iter().flat_map(|run| &run.curve);
    let steps = all.map(|point| point.0).fold(1.0, f64::max);
    // The first third falls far, and all alike: it would press the rest together.
    let later = |run: &Done| {
        let points = run.curve.iter().copied();
        points.filter(|point| point.0 >= steps / 3.0).collect()
    };
    let loss = Axis::new("held-out loss, nats per token", Scale::Linear);
    let mut chart = Chart::new(Axis::new("steps", Scale::Linear), loss);
    for (index, attention) in Attention::ALL.into_iter().enumerate() {
        for run in runs.iter().filter(|run| run.attention == attention) {
            let name = format!("{attention}, seed {}", run.seed);
            let mut look = Look::plain(index);
            look.dashes = run.seed.saturating_sub(1) as usize;
            chart.lines.push(Line::new(name, later(run), look));
        }
    }
    fs::write(path, chart.svg()).with_context(|| format!("cannot draw {}", path.display()))
}
