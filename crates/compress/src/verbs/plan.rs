//! `compress plan METHOD MODEL`: what would be done, as a file for people and for `run --plan`.

use anyhow::Result;
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{Method, Survey};
use compress_svd::Svd;

use crate::{
    Outcome,
    args::{PlanMethod, Planning},
    model::Opened,
    pipeline, report,
};

pub fn run(method: PlanMethod) -> Result<Outcome> {
    match method {
        PlanMethod::Svd(arguments) => plan(&Svd, &arguments),
    }
}

fn plan<M: Method>(method: &M, arguments: &Planning) -> Result<Outcome> {
    let model = Opened::open(arguments.model.name.as_deref(), arguments.printing.quiet)?;
    let selection = arguments.sites.selection();
    let survey = Survey::new(&model.checkpoint, |site| selection.contains(site));
    let plan = pipeline::plan(method, &survey, &model, arguments)?;
    let layout = Layout::new(
        &model.checkpoint,
        &pipeline::forms(&plan, &arguments.form),
        arguments.form.dtype,
    )?;
    foretell(&model.checkpoint, &layout, &survey, plan.steps.len());
    println!("{}", serde_json::to_string_pretty(&plan)?);
    Ok(Outcome::Kept)
}

/// What a plan will cost in bytes, disk and memory, told on stderr before anything is done.
pub fn foretell(source: &Checkpoint, layout: &Layout, survey: &Survey<'_>, steps: usize) {
    let (before, after) = (source.file_bytes(), layout.bytes());
    let mut table = report::plain(["", "now", "planned"]);
    table.add_row([
        "weight files".into(),
        report::size(before),
        report::size(after),
    ]);
    table.add_row([
        "parameters".into(),
        report::grouped(source.parameters()),
        report::grouped(layout.parameters()),
    ]);
    table.add_row(["weights changed".into(), String::new(), steps.to_string()]);
    table.add_row([
        "free disk needed".into(),
        String::new(),
        report::size(after),
    ]);
    table.add_row([
        "memory needed, about".into(),
        String::new(),
        report::size(memory(source, survey)),
    ]);
    eprintln!("{table}");
    if after > before {
        let difference = report::size(after - before);
        eprintln!(
            "warning: the output will be {difference} larger than the input, whose numbers take fewer bits than {}'s",
            source.format()
        );
    }
}

/// On each core one weight, its Gram matrix and eigenvectors (at worst in f64), and its factors;
/// beside them the largest tensor that is converted.
fn memory(source: &Checkpoint, survey: &Survey<'_>) -> usize {
    let largest = survey.sites().map(|(_, shape)| {
        let short = shape.full_rank();
        4 * 3 * shape.size() + 8 * 4 * short * short
    });
    let converted = source
        .tensors()
        .values()
        .map(|tensor| 4 * tensor.size())
        .max();
    let converted = if source.is_gguf() {
        converted.unwrap_or(0)
    } else {
        0
    };
    rayon::current_num_threads() * largest.max().unwrap_or(0)
        + converted
        + source.file_bytes().min(1 << 28)
}
