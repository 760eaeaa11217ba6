//! `compress plan METHOD MODEL`: what would be done, as a file for people and for `run --plan`.

use anyhow::Result;
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{Method, Plan, Step, Survey};

use crate::{
    Outcome,
    args::{By, Planning, With},
    evidence::Evidence,
    model::Opened,
    pipeline, plot, report,
};

pub fn run(method: By<Planning>) -> Result<Outcome> {
    match method {
        By::Svd(With { own, job }) => plan(&own.method(), &job),
        By::Fwsvd(With { own, job }) => plan(&own.method(), &job),
        By::Welore(With { own, job }) => plan(&own.method(), &job),
        By::Lorc(With { own, job }) => plan(&own.method(), &job),
    }
}

fn plan<M: Method>(method: &M, arguments: &Planning) -> Result<Outcome> {
    let model = Opened::open(arguments.model.name.as_deref(), arguments.printing.quiet)?;
    let selection = arguments.sites.selection();
    let survey = Survey::new(&model.checkpoint, |site| selection.contains(site));
    let foresight = Evidence::to_plan(method, arguments, None, &model)?;
    let survey = foresight.inform(survey);
    let plan = pipeline::plan(method, &survey, &model, arguments)?;
    let edits = pipeline::edits(plan.forms(), &arguments.form);
    let layout = Layout::new(&model.checkpoint, &edits)?;
    let memory = to_compress(method, &model.checkpoint, &survey, &plan)?;
    foretell(
        &model.checkpoint,
        &layout,
        &survey,
        &plan,
        memory,
        arguments,
    )?;
    report::print(serde_json::to_string_pretty(&plan)?)?;
    Ok(Outcome::Kept)
}

/// What a plan will cost in bytes, disk and memory, told on stderr before anything is done; when
/// quiet, only the warning that the output will be larger. And its picture, where one is asked for.
pub fn foretell<S: Step>(
    source: &Checkpoint,
    layout: &Layout,
    survey: &Survey<'_>,
    plan: &Plan<S>,
    to_compress: usize,
    arguments: &Planning,
) -> Result<()> {
    if let Some(path) = &arguments.plot {
        plot::ranks::draw(path, survey, &plan.forms())?;
    }
    let (before, after) = (source.file_bytes(), layout.bytes());
    if !arguments.printing.quiet {
        let mut table = report::plain(["", "now", "planned"]);
        let mut row = |name: &str, now: String, planned: String| {
            table.add_row([name.to_owned(), now, planned]);
        };
        row("weight files", report::size(before), report::size(after));
        let count = report::grouped;
        row(
            "parameters",
            count(source.parameters()),
            count(layout.parameters()),
        );
        row(
            "weights changed (LRC)",
            String::new(),
            plan.steps.len().to_string(),
        );
        row(
            "weights whole (N-LRC)",
            String::new(),
            plan.whole.len().to_string(),
        );
        row("free disk needed", String::new(), report::size(after));
        let memory = |bytes| format!("about {}", report::size(bytes));
        row("memory to compress", String::new(), memory(to_compress));
        row(
            "memory to evaluate",
            String::new(),
            memory(to_evaluate(source, layout)),
        );
        eprintln!("{table}");
    }
    // Headers differ by a few bytes; numbers are what counts.
    if after > before + before / 1000 {
        eprintln!(
            "warning: the output, in {}, will be {} larger than the input",
            layout.format(),
            report::size(after - before)
        );
    }
    Ok(())
}

/// What the method needs for the streams that are compressed side by side; beside that the largest tensor
/// that is converted, and what the system keeps of the mapped file.
pub fn to_compress<M: Method>(
    method: &M,
    source: &Checkpoint,
    survey: &Survey<'_>,
    plan: &Plan<M::Step>,
) -> Result<usize> {
    let converted = source.tensors().values().map(|tensor| 4 * tensor.size());
    let converted = if source.is_gguf() {
        converted.max()
    } else {
        None
    };
    let (_, needed) = pipeline::side_by_side_in(method, plan, survey)?;
    Ok(needed + converted.unwrap_or(0) + source.file_bytes())
}

/// Both models in f32, and on each core a slice of logits.
fn to_evaluate(source: &Checkpoint, layout: &Layout) -> usize {
    const LOGITS: usize = 100_000_000;
    4 * (source.parameters() + layout.parameters()) + rayon::current_num_threads() * LOGITS
}
