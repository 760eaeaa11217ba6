//! `compress evaluate MODEL`: run a model over a text, alone or beside its original.
//!
//! The figures are those that `run` gives at its end; with `--against` the divergence from the original is among
//! them.

use anyhow::Result;

use crate::{Outcome, args::Evaluate, model::Opened, report, scoring::ScoringText};

/// Runs the model over the text, and prints its figures.
pub fn run(job: &Evaluate) -> Result<Outcome> {
    let quiet = job.printing.quiet;
    let mut model = Opened::open(job.model.name.as_deref(), quiet)?;
    model.take_policy(job.cache.as_deref())?;
    let original = job
        .against
        .as_deref()
        .map(|name| Opened::open(Some(name), quiet))
        .transpose()?;
    let text = ScoringText::new(&job.text.job(), &model.checkpoint, job.resources.job())?;
    if job.needles.is_some() {
        text.check_needles(&model.checkpoint)?;
    }
    let mut measured = match &original {
        Some(original) => {
            text.compare(&original.checkpoint, &model.checkpoint, quiet)?
                .1
        }
        None => text.score(&model.checkpoint, quiet)?,
    };
    if let Some(count) = job.needles {
        measured.needles = Some(text.needles(&model.checkpoint, count, quiet)?);
    }
    if job.printing.json {
        let mut json = serde_json::to_value(&measured)?;
        json["model"] = model.name.into();
        json["text"] = text.describe();
        return report::print(json).map(|()| Outcome::Kept);
    }
    report::print(format_args!("{}: {}", model.name, text.title()))?;
    report::print(report::single(&measured))?;
    Ok(Outcome::Kept)
}
