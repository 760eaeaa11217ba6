//! `compress plan METHOD MODEL`: what would be done, as a file for people and for `run --plan`.

use anyhow::Result;
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{Method, Plan, Shape, Step, Survey};
use compress_evaluate::{Footprint, Outline};

use crate::{
    Outcome,
    args::{By, Planning, With},
    evidence::Evidence,
    memory::Memory,
    model::Opened,
    pipeline, plot, report,
    verbs::evaluate::WINDOWS,
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
    foretell(&model.checkpoint, &layout, &survey, &plan, arguments)?;
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
        row(
            "memory to compress",
            String::new(),
            memory(to_compress(source, survey)),
        );
        row(
            "memory to evaluate",
            String::new(),
            memory(to_evaluate(source, layout, arguments.resources.memory())),
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

/// On each core one weight, its Gram matrix and eigenvectors (at worst in f64), and its factors;
/// beside them the largest tensor that is converted.
fn to_compress(source: &Checkpoint, survey: &Survey<'_>) -> usize {
    let weight = |shape: Shape| 4 * 3 * shape.size() + 8 * 4 * shape.full_rank().pow(2);
    let largest = survey.sites().map(|(_, shape)| weight(shape)).max();
    let converted = source.tensors().values().map(|tensor| 4 * tensor.size());
    let converted = if source.is_gguf() {
        converted.max()
    } else {
        None
    };
    rayon::current_num_threads() * largest.unwrap_or(0) + converted.unwrap_or(0)
}

/// Both models over windows of 1024 tokens, as they would be run in this memory.
fn to_evaluate(source: &Checkpoint, layout: &Layout, memory: Memory) -> usize {
    let need = Footprint {
        models: vec![Outline::of(source), Outline::planned(source, layout)],
        reference: None,
        time: source.config().context.min(1024),
        windows: WINDOWS,
    };
    let whole = need.whole();
    if memory.holds(whole) {
        return whole;
    }
    need.streamed(need.batch(memory.bytes()).unwrap_or(1))
}
