//! `compress run METHOD MODEL -o OUT`: plan, compress, write, and evaluate before and after.
//!
//! Places and texts are checked before any work. The model gets its name before it is run, so that no failure to
//! measure it takes it away; measurements are let go last, so that a failure does not cost them. `compare` does the
//! same for each variant, and `tune` shares the end of it.

use std::path::Path;

use anyhow::{Context as _, Result};
use compress_checkpoint::{
    Card, Checkpoint, Input, Layout, Output, OutputSpec, Published, Record, Writer,
};
use compress_core::{Method, Survey};

use crate::{
    Outcome,
    args::{self, By, Work},
    evidence::Measurements,
    interrupt,
    job::{Planning, Running, Target},
    model::Opened,
    pipeline,
    report::{self, run::RunReport},
    scoring::{Baseline, ModelReport, ScoringText},
    side,
    task::Task,
    verbs::plan::preview,
};

/// Runs the method, and prints the report once all is done.
pub fn run(method: &By<args::Running>) -> Result<Outcome> {
    let job = method.job()?;
    let json = job.planning.printing.json;
    let told = perform(method, job, None, true)?;
    if json {
        report::print(told.json)?;
    } else {
        report::print(told.text)?;
    }
    Ok(told.outcome)
}

/// Does all of it but the telling; an original that has been run already is not run again. `stays` tells whether what
/// is begun outlives the command.
pub fn perform(
    method: &By<args::Running>,
    job: Running,
    baseline: Option<&Baseline<'_>>,
    stays: bool,
) -> Result<RunReport> {
    method.perform(job, Compress { baseline, stays })
}

/// The work of `run`, by whichever method.
struct Compress<'a> {
    /// An original that was run before, in a comparison; none where this run has to run it.
    baseline: Option<&'a Baseline<'a>>,
    /// Whether a failed run can be gone on with: in a folder that goes with the command there is nothing to go on from.
    stays: bool,
}

impl Work<Running> for Compress<'_> {
    type Output = Result<RunReport>;

    fn by<M: Method>(self, method: &M, job: Running) -> Result<RunReport> {
        let (planning, context) = (&job.planning, job.text.context);
        let quiet = planning.printing.quiet;
        let model = Opened::open(planning.model.as_deref(), quiet)?;
        let inputs = inputs(&job, &model);
        // The lock comes first: another run may be about to publish to this place.
        let output = Output::claim(&job.output, job.force, &inputs)?;
        side::check(planning.plot.as_deref(), &inputs, Some(&output))?;
        // What can be wrong with the text shows before the work.
        let text = self.text(&job, &model)?;
        let survey = Survey::new(&model.checkpoint, |site| planning.selection.contains(site));
        let foresight = Measurements::to_plan(method, planning, context, &model)?;
        let survey = foresight.inform(survey);
        let plan = pipeline::plan(method, &survey, &model, planning)?;
        let decided_by = pipeline::decided_by(method, &survey, planning)?;
        let spec = pipeline::output_spec(&model.checkpoint, plan.forms(), &planning.form);
        let layout = Layout::new(&model.checkpoint, &spec)?;
        // Bytes, disk and memory are known now, and told before anything is measured for compressing.
        let both = (&model.checkpoint, &layout);
        let takes = preview(method, &plan, &survey, both, (planning, context))?;
        let evidence = Measurements::to_compress(method, &plan, planning, context, &model)?;
        // Methods report the errors of factors as they are stored.
        let survey = evidence
            .inform(survey)
            .storing_factors(planning.form.factors);
        let task = Task {
            method,
            job: &job,
            model: &model,
            survey,
            plan: &plan,
            decided_by,
            evidence: &evidence,
            parallel: takes.parallel,
            calibrate_seconds: foresight.seconds() + evidence.seconds(),
        };
        // Before the first file of it: an interrupt may come at any moment.
        interrupt::say(self.stays.then(|| goes_on(&output.work())));
        let writer = Writer::begin(&model.checkpoint, &layout, output, &task.describe()?)?;
        let compressed = match task.compress(&writer) {
            Ok(compressed) => compressed,
            Err(error) if self.stays => return Err(leave(error, writer)),
            Err(error) => return Err(error),
        };
        let mut done = task.done(compressed);
        let published = publish(writer, &done.record(method)?, &done.card())?;
        // The model is finished and in its place: nothing that goes wrong from here on takes it away.
        if let Some(text) = text {
            let measured = self.measure(&text, &model.checkpoint, published.path(), quiet)?;
            done.measured = Some((text, measured));
            // Record and card get the figures; weights are not touched any more.
            published.describe(&done.record(method)?, &done.card())?;
        }
        interrupt::say(None); // all is done that it could speak of
        let told = done.report(method.name(), layout.bytes())?;
        // Where both are one store, the first call finds it in use by the second value, which then removes it.
        evidence.let_go();
        foresight.let_go();
        Ok(told)
    }
}

impl Compress<'_> {
    /// The text that both models are to be run over, if they are. In a comparison it is cut already.
    ///
    /// Fails where the models could not be run in this memory, before any work.
    fn text(&self, job: &Running, model: &Opened) -> Result<Option<ScoringText>> {
        if let Some(baseline) = self.baseline {
            return Ok(Some(baseline.text.clone()));
        }
        if !job.evaluate {
            return Ok(None);
        }
        let text = ScoringText::new(&job.text, &model.checkpoint, job.planning.machine)?;
        text.check_room(&model.checkpoint, 2)?;
        Ok(Some(text))
    }

    /// Both models' figures, before and after. A GGUF source is compared at the format in which the output is
    /// written: its own blocks of few bits are no baseline for floats.
    fn measure(
        &self,
        text: &ScoringText,
        source: &Checkpoint,
        written: &Path,
        quiet: bool,
    ) -> Result<(ModelReport, ModelReport)> {
        // From its files, as others will read it.
        let output = Checkpoint::open(written)?;
        let measured = match self.baseline {
            Some(baseline) => baseline.compare(&output, quiet),
            None => text.compare(source, &output, quiet),
        };
        let (mut before, after) = measured.with_context(|| not_evaluated(written))?;
        if source.is_gguf() {
            let spec = OutputSpec {
                format: Some(output.format()),
                ..OutputSpec::default()
            };
            before.bytes = Layout::new(source, &spec)?.bytes();
            before.block_bytes = before.block_weights * output.format().bytes();
        }
        Ok((before, after))
    }
}

/// The paths that the run reads and must not replace: an output there would cost the user what it was made from.
fn inputs<'a>(job: &'a Running, model: &'a Opened) -> Vec<Input<'a>> {
    let Planning {
        target,
        calibration,
        ..
    } = &job.planning;
    let plan = match target {
        Target::Plan(path) => Some(path),
        _ => None,
    };
    let others = [
        plan,
        calibration.text.as_ref(),
        calibration.evidence.as_ref(),
        job.text.file.as_ref(),
    ];
    let others = others.into_iter().flatten();
    let others = others.map(|path| Input::Other(path));
    model.inputs().chain(others).collect()
}

/// Gives a finished model its name. An interrupt after it has another message: the model stays, not the work
/// directory.
pub fn publish<'a>(writer: Writer<'a>, record: &Record, card: &Card) -> Result<Published<'a>> {
    let work = goes_on(writer.work());
    let published = writer.publish(record, card).with_context(|| work)?;
    // Where there was nothing to say of the work, there is nothing to say of the model.
    interrupt::say_instead(not_evaluated(published.path()));
    Ok(published)
}

/// For messages: a work directory that stays.
pub fn goes_on(work: &Path) -> String {
    let work = work.display();
    format!("{work} stays, and the same command goes on from there")
}

/// For messages: a model that is finished, but was not run.
pub fn not_evaluated(output: &Path) -> String {
    let output = output.display();
    format!("{output} is finished, but was not evaluated: `compress evaluate {output}` does that")
}

/// Ends a run after a failure: the work directory stays where it has something to go on from, and the error then says
/// so.
pub fn leave(error: anyhow::Error, writer: Writer<'_>) -> anyhow::Error {
    let work = goes_on(writer.work());
    match writer.leave() {
        Ok(true) => error.context(work),
        Ok(false) => error,
        Err(second) => error.context(second),
    }
}
