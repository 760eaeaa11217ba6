//! `compress plan METHOD MODEL`: the plan as a file, for people and for `run --plan`.
//!
//! Goes as far as `run` does before it compresses, and no further: the plan goes to stdout, what it would take to
//! stderr.

use anyhow::Result;
use comfy_table::Table;
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{Form, Method, Plan, Site, Survey};
use compress_evaluate::{Outline, ScoringFootprint};
use compress_models::Mixtures;

use crate::{
    Outcome,
    args::{self, By, Work},
    evidence::Measurements,
    footprint::{self, Footprint},
    job::Planning,
    memory::Memory,
    model::Opened,
    pipeline, plot, report,
    scoring::WINDOWS,
    side,
};

/// Plans by the method, and prints the plan.
pub fn run(method: &By<args::Planning>) -> Result<Outcome> {
    method.perform(method.job()?, Plans)
}

/// The work of `plan`, by whichever method.
struct Plans;

impl Work<Planning> for Plans {
    type Output = Result<Outcome>;

    fn by<M: Method>(self, method: &M, job: Planning) -> Result<Outcome> {
        let model = Opened::open(job.model.as_deref(), job.printing.quiet)?;
        let inputs: Vec<_> = model.inputs().collect();
        side::check(job.plot.as_deref(), &inputs, None)?;
        let survey = Survey::new(&model.checkpoint, |site| job.selection.contains(site));
        // Without an evaluation, there is no context for calibration to follow.
        let foresight = Measurements::to_plan(method, &job, None, &model)?;
        let survey = foresight.inform(survey);
        let plan = pipeline::plan(method, &survey, &model, &job)?;
        let spec = pipeline::output_spec(&model.checkpoint, plan.forms(), &job.form);
        let layout = Layout::new(&model.checkpoint, &spec)?;
        let both = (&model.checkpoint, &layout);
        preview(method, &plan, &survey, both, (&job, None))?;
        report::print(serde_json::to_string_pretty(&plan)?)?;
        Ok(Outcome::Kept)
    }
}

/// Predicts what carrying out a plan takes, and tells of it on stderr before anything is done: bytes, disk and
/// memory. When quiet, it tells only that the output will be larger than the input. Draws the plan where a picture is
/// asked for.
pub fn preview<M: Method>(
    method: &M,
    plan: &Plan<M::Step>,
    survey: &Survey<'_>,
    (source, layout): (&Checkpoint, &Layout),
    (job, context): (&Planning, Option<usize>),
) -> Result<Footprint> {
    if let Some(path) = &job.plot {
        plot::ranks::draw(path, survey, &plan.forms())?;
    }
    let how = (job, context);
    let takes = footprint::preview(
        (method, plan),
        survey,
        (source, layout),
        how,
        job.machine.memory,
    )?;
    let changed = [plan.forms().len(), plan.whole.len()];
    if !job.printing.quiet {
        tell!(
            "{}",
            table(changed, (source, layout), &takes, job.machine.memory)
        );
        warn_of_options(&plan.forms(), job, &takes);
    }
    let (before, after) = (source.file_bytes(), layout.bytes());
    // Headers differ by a few bytes; numbers are what counts.
    if after > before + before / 1000 {
        tell!(
            "warning: the output, in {}, will be {} larger than the input",
            layout.format(),
            report::size(after - before)
        );
    }
    Ok(takes)
}

/// The table of the prediction: sizes before and after, and what carrying out the plan takes.
fn table(
    [changed, whole]: [usize; 2],
    (source, layout): (&Checkpoint, &Layout),
    takes: &Footprint,
    limit: Memory,
) -> Table {
    let mut table = report::plain(["", "now", "planned"]);
    let mut row = |name: &str, now: String, planned: String| {
        table.add_row([name.to_owned(), now, planned]);
    };
    let (size, count) = (report::size, report::grouped);
    row(
        "weight files",
        size(source.file_bytes()),
        size(layout.bytes()),
    );
    row(
        "parameters",
        count(source.parameters()),
        count(layout.parameters()),
    );
    row("weights changed (LRC)", String::new(), changed.to_string());
    row("weights whole (N-LRC)", String::new(), whole.to_string());
    let mut predicted = |name: &str, bytes: u64| {
        row(
            name,
            String::new(),
            format!("about {}", size(bytes as usize)),
        );
    };
    predicted("free disk needed", takes.disk);
    predicted("of that, measurements", takes.evidence);
    predicted("memory to compress", takes.memory as u64);
    let evaluating = to_evaluate(source, layout, limit);
    predicted("memory to evaluate", evaluating as u64);
    table
}

/// Warns of options that change nothing, and of a limit of memory that cannot be kept; neither stops a run.
fn warn_of_options(forms: &[(Site, Form)], job: &Planning, takes: &Footprint) {
    let cut = forms.iter().any(|(_, form)| form.is_factored());
    if job.form.factors.is_some() && !cut {
        tell!("warning: no weight becomes low-rank factors, so --factor-bits changes nothing");
    }
    if takes.memory > job.machine.memory.bytes() {
        tell!(
            "warning: compressing takes about {} of memory at the least, and {} may be used",
            report::size(takes.memory),
            report::size(job.machine.memory.bytes())
        );
    }
}

/// Bytes to run both models side by side over windows of at most 1024 tokens, whole if that fits in `memory`, else
/// with as many windows at a time as fit.
fn to_evaluate(source: &Checkpoint, layout: &Layout, memory: Memory) -> usize {
    let need = ScoringFootprint {
        models: vec![Outline::of(source), Outline::planned(source, layout)],
        reference: None,
        mixtures: Mixtures::default(),
        time: source.config().context.min(1024),
        windows: WINDOWS,
    };
    let whole = need.whole();
    if memory.holds(whole) {
        return whole;
    }
    // Where not even one window fits, the least that it takes.
    need.streamed(need.batch(memory.bytes()).unwrap_or(1))
}
