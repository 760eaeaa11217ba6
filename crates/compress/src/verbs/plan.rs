//! `compress plan METHOD MODEL`: what would be done, as a file for people and for `run --plan`.

use anyhow::Result;
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{Form, Method, Plan, Site, Survey};
use compress_evaluate::{Footprint as Evaluation, Outline};

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

pub fn run(method: &By<args::Planning>) -> Result<Outcome> {
    method.perform(method.job()?, Plans)
}

/// Plans, and prints the plan.
struct Plans;

impl Work<Planning> for Plans {
    type Output = Result<Outcome>;

    fn by<M: Method>(self, method: &M, job: Planning) -> Result<Outcome> {
        let model = Opened::open(job.model.as_deref(), job.printing.quiet)?;
        let inputs: Vec<_> = model.inputs().collect();
        side::check(job.plot.as_deref(), &inputs, None)?;
        let survey = Survey::new(&model.checkpoint, |site| job.selection.contains(site));
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

/// What a plan will cost in bytes, disk and memory, told on stderr before anything is done; when
/// quiet, only the warning that the output will be larger. And its picture, where one is asked for.
pub fn preview<M: Method>(
    method: &M,
    plan: &Plan<M::Step>,
    survey: &Survey<'_>,
    (source, layout): (&Checkpoint, &Layout),
    (arguments, context): (&Planning, Option<usize>),
) -> Result<Footprint> {
    if let Some(path) = &arguments.plot {
        plot::ranks::draw(path, survey, &plan.forms())?;
    }
    let cut = |(_, form): &(Site, Form)| form.rank().is_some();
    let rounded = arguments.form.factors.is_some();
    if rounded && !plan.forms().iter().any(cut) && !arguments.printing.quiet {
        eprintln!("warning: no weight becomes low-rank factors, so --factor-bits changes nothing");
    }
    let limit = arguments.memory;
    let how = (arguments, context);
    let takes = footprint::preview((method, plan), survey, (source, layout), how, limit)?;
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
        let mut predicted = |name: &str, bytes: u64| {
            let about = format!("about {}", report::size(bytes as usize));
            row(name, String::new(), about);
        };
        predicted("free disk needed", takes.disk);
        predicted("of that, measurements", takes.evidence);
        predicted("memory to compress", takes.memory as u64);
        predicted(
            "memory to evaluate",
            to_evaluate(source, layout, limit) as u64,
        );
        eprintln!("{table}");
    }
    if takes.memory > limit.bytes() && !arguments.printing.quiet {
        eprintln!(
            "warning: compressing takes about {} of memory at the least, and {} may be used",
            report::size(takes.memory),
            report::size(limit.bytes())
        );
    }
    // Headers differ by a few bytes; numbers are what counts.
    if after > before + before / 1000 {
        eprintln!(
            "warning: the output, in {}, will be {} larger than the input",
            layout.format(),
            report::size(after - before)
        );
    }
    Ok(takes)
}

/// Both models over windows of 1024 tokens, as they would be run in this memory.
fn to_evaluate(source: &Checkpoint, layout: &Layout, memory: Memory) -> usize {
    let need = Evaluation {
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
