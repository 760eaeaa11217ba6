//! The way from a budget to a written model, the same for every method.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytesize::ByteSize;
use compress_calibrate::{Measured, Sequential};
use compress_checkpoint::{Edits, Layout, Writer};
use compress_core::{
    Budget, Edit, Evidence, Factor, Form, Matrix, Method, Plan, Planned, Quantised, Role, Shape,
    Site, Stream, Survey, Symmetric, Tokens, Weights, side_by_side,
};

use crate::{
    args::{OutputForm, Planning, Target},
    model::Opened,
    progress,
};

/// What is kept where the user says nothing.
const KEEP: f64 = 0.8;

/// Bytes within which streams are compressed side by side.
const SIDE_BY_SIDE: usize = 4_000_000_000;

/// The plan that the arguments ask for: read from a file, or made for a budget or a size.
pub fn plan<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    arguments: &Planning,
) -> Result<Plan<M::Step>> {
    let factored = model
        .checkpoint
        .forms()
        .values()
        .any(|form| *form != Form::Whole);
    ensure!(
        !(arguments.form.dense && factored),
        "{} has weights that are factored already, which --dense does not multiply out",
        model.name
    );
    ensure!(
        survey.sites().next().is_some(),
        "no weight to compress: --only and --skip leave none, or all are factored already"
    );
    let Target { keep, size, plan } = &arguments.target;
    ensure!(
        M::BUDGETED || (keep.is_none() && size.is_none()),
        "{} takes no --keep and no --target-size: its --bits, --group and --rank decide the size",
        method.name()
    );
    match (plan, size) {
        (Some(path), _) => read(path, model, survey),
        (None, None) if !M::BUDGETED => {
            let steps = method.plan(survey, Budget::ALL)?;
            Ok(Plan::new(method.name(), model.id()?, None, steps, survey)?)
        }
        (None, Some(size)) => fit(method, survey, model, arguments, *size),
        (None, None) => {
            let keep = keep.map_or_else(|| Budget::keep(KEEP), Ok)?;
            for_budget(method, survey, model, keep)
        }
    }
}

fn for_budget<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    keep: Budget,
) -> Result<Plan<M::Step>> {
    let steps = method.plan(survey, keep)?;
    Ok(Plan::new(
        method.name(),
        model.id()?,
        Some(keep),
        steps,
        survey,
    )?)
}

fn read<S: compress_core::Step>(
    path: &Path,
    model: &Opened,
    survey: &Survey<'_>,
) -> Result<Plan<S>> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the plan {name}"))?;
    let plan: Plan<S> = serde_json::from_str(&text)
        .with_context(|| format!("{name} is not a plan that this method can carry out"))?;
    let id = model.id()?;
    if plan.source.digest != id.digest {
        bail!(
            "{name} was made for {}, whose weights are not those of {}",
            plan.source.name,
            id.name
        );
    }
    plan.check(survey)
        .with_context(|| format!("{name} does not fit the model"))?;
    let steps = plan.steps.into_iter().map(|planned| planned.step);
    Ok(Plan::new(
        &plan.method,
        id,
        plan.keep,
        steps.collect(),
        survey,
    )?)
}

/// The plan with the largest budget whose weight files are no larger than `size`.
fn fit<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    arguments: &Planning,
    size: ByteSize,
) -> Result<Plan<M::Step>> {
    ensure!(
        !arguments.form.dense,
        "--dense saves no bytes, so it cannot meet --target-size"
    );
    let bytes = |keep: f64| {
        let steps = method.plan(survey, Budget::keep(keep)?)?;
        let forms = steps.iter().flat_map(compress_core::Step::forms).collect();
        let edits = edits(forms, &arguments.form);
        anyhow::Ok(Layout::new(&model.checkpoint, &edits)?.bytes() as u64)
    };
    let (mut fits, mut exceeds) = (f64::MIN_POSITIVE, 1.0);
    if bytes(exceeds)? <= size.as_u64() {
        return for_budget(method, survey, model, Budget::ALL);
    }
    let least = bytes(fits)?;
    ensure!(
        least <= size.as_u64(),
        "{size} cannot be reached: at rank 1 everywhere the weight files still take {}",
        ByteSize(least)
    );
    for _ in 0..40 {
        let middle = f64::midpoint(fits, exceeds);
        if bytes(middle)? <= size.as_u64() {
            fits = middle
        } else {
            exceeds = middle
        }
    }
    for_budget(method, survey, model, Budget::keep(fits)?)
}

/// What the output will have other than its source, once weights have the forms of a plan.
pub fn edits(forms: Vec<(Site, Form)>, form: &OutputForm) -> Edits {
    let written = |planned| match (planned, form.factors()) {
        _ if form.dense => Form::Whole,
        (Form::LowRank { rank }, Some(scheme)) => Form::RoundedPair { scheme, rank },
        (planned, _) => planned,
    };
    let forms = forms.into_iter();
    Edits {
        forms: forms.map(|(site, form)| (site, written(form))).collect(),
        tables: form.tables(),
        format: form.dtype,
    }
}

/// A factor in the form that [`edits`] foretells.
fn written(edit: Edit, form: &OutputForm) -> Result<(Site, Factor, f64)> {
    let Edit::Replace {
        site,
        factor,
        error,
    } = edit;
    let factor = match (factor, form.factors()) {
        (factor, _) if form.dense => Factor::Whole(factor.dense()?),
        (Factor::LowRank { up, down }, Some(scheme)) => Factor::RoundedPair {
            up: Quantised::nearest(&up, scheme)?,
            down: Quantised::nearest(&down, scheme)?,
        },
        (factor, _) => factor,
    };
    Ok((site, factor, error))
}

/// What compressing gave.
pub struct Compressed {
    /// Relative squared error of every changed weight.
    pub errors: BTreeMap<Site, f64>,
    pub seconds: f64,
}

/// Carries out every step that is not done yet, those of one stream together and one stream per core at a
/// time, and writes the results of a stream at once.
pub fn compress<M: Method>(
    method: &M,
    plan: &Plan<M::Step>,
    survey: &Survey<'_>,
    writer: &Writer<'_>,
    arguments: &Planning,
) -> Result<Compressed> {
    let start = Instant::now();
    let bar = progress::bar("compressing", plan.steps.len(), arguments.printing.quiet);
    let streams: Vec<Vec<usize>> = by_stream(plan)?.into_values().collect();
    let (lanes, _) = side_by_side_in(method, plan, survey)?;
    let one = |stream: usize| {
        let (done, left): (Vec<usize>, Vec<usize>) = streams[stream]
            .iter()
            .partition(|index| writer.finished().contains_key(index));
        let known = done.iter().filter_map(|index| writer.finished().get(index));
        let mut errors: Vec<(Site, f64)> = known.flatten().copied().collect();
        let factors = carry_out(method, plan, &left, survey, writer, arguments)?;
        errors.extend(factors.into_iter().map(|(site, _, error)| (site, error)));
        bar.inc(streams[stream].len() as u64);
        anyhow::Ok(errors)
    };
    let errors = side_by_side(streams.len(), lanes, one)?;
    bar.finish_and_clear();
    Ok(Compressed {
        errors: errors.into_iter().flatten().collect(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// How many streams are compressed side by side, and the bytes that this takes: as many as there are threads,
/// as far as that takes no more than a limit. Alone, one stream keeps all threads busy too, for the most part.
pub fn side_by_side_in<M: Method>(
    method: &M,
    plan: &Plan<M::Step>,
    survey: &Survey<'_>,
) -> Result<(usize, usize)> {
    let threads = rayon::current_num_threads();
    let mut largest = 0;
    for indices in by_stream(plan)?.into_values() {
        let steps = indices.iter().filter_map(|&index| plan.steps.get(index));
        let steps: Vec<M::Step> = steps.map(|planned| planned.step.clone()).collect();
        let needed = method.memory(&steps, &|site| survey.shape(site), threads)?;
        largest = largest.max(needed);
    }
    let lanes = (SIDE_BY_SIDE / largest.max(1)).clamp(1, threads);
    Ok((lanes, lanes * largest))
}

/// The steps of a plan by the one stream that the weights of each read.
fn by_stream<S: compress_core::Step>(plan: &Plan<S>) -> Result<BTreeMap<Stream, Vec<usize>>> {
    let mut by_stream: BTreeMap<Stream, Vec<usize>> = BTreeMap::new();
    for (index, planned) in plan.steps.iter().enumerate() {
        let streams: BTreeSet<_> = forms_of(planned).map(Site::stream).collect();
        let [stream] = streams.iter().copied().collect::<Vec<_>>()[..] else {
            bail!("a step must change weights that read the same input; {planned:?} does not");
        };
        by_stream.entry(stream).or_default().push(index);
    }
    Ok(by_stream)
}

/// Carries out every step behind those before it, each measured on the model as far as it is compressed.
pub fn compress_in_sequence<M: Method>(
    method: &M,
    plan: &Plan<M::Step>,
    survey: &Survey<'_>,
    writer: &Writer<'_>,
    arguments: &Planning,
    mut walks: Sequential<'_>,
) -> Result<Compressed> {
    let start = Instant::now();
    let by_stream = by_stream(plan)?;
    let mut errors = BTreeMap::new();
    let layers = by_stream.keys().map(|stream| stream.layer + 1).max();
    for layer in 0..layers.unwrap_or(0) {
        walks.through(layer, |measured| {
            let here = by_stream
                .get(&measured.stream)
                .map_or(&[][..], Vec::as_slice);
            let behind = Behind { survey, measured };
            let survey = Survey::new(&behind, |_| true).with_evidence(&behind);
            let factors = carry_out(method, plan, here, &survey, writer, arguments)?;
            let factors = factors.into_iter();
            Ok::<_, anyhow::Error>(
                factors
                    .map(|(site, factor, error)| {
                        errors.insert(site, error);
                        (site, factor)
                    })
                    .collect(),
            )
        })?;
    }
    walks.finish()?;
    Ok(Compressed {
        errors,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Carries out the steps of one stream, and writes what each gives.
fn carry_out<M: Method>(
    method: &M,
    plan: &Plan<M::Step>,
    indices: &[usize],
    survey: &Survey<'_>,
    writer: &Writer<'_>,
    arguments: &Planning,
) -> Result<Vec<(Site, Factor, f64)>> {
    let mut step_of = BTreeMap::new();
    let mut steps = Vec::new();
    for &index in indices {
        let planned = plan.steps.get(index).context("a plan without this step")?;
        step_of.extend(forms_of(planned).map(|site| (site, index)));
        steps.push(planned.step.clone());
    }
    let mut by_step: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for edit in method.compress(&steps, survey)? {
        let factor = written(edit, &arguments.form)?;
        let index = step_of.get(&factor.0).context("an edit of no step")?;
        by_step.entry(*index).or_default().push(factor);
    }
    for (index, factors) in &by_step {
        writer.put(*index, factors)?;
    }
    Ok(by_step.into_values().flatten().collect())
}

fn forms_of<S: compress_core::Step>(planned: &Planned<S>) -> impl Iterator<Item = Site> {
    planned.step.forms().into_iter().map(|(site, _)| site)
}

/// A survey as it looks behind weights that are compressed already: other inputs, and weights that aim
/// at the original's outputs all the same.
struct Behind<'a> {
    survey: &'a Survey<'a>,
    measured: &'a Measured,
}

impl Weights for Behind<'_> {
    fn shapes(&self) -> BTreeMap<Site, Shape> {
        self.survey.sites().collect()
    }

    fn load(&self, site: Site) -> compress_core::Result<Matrix> {
        let weight = self.survey.weight(site)?;
        self.measured.retarget(site.role, &weight)
    }
}

impl Evidence for Behind<'_> {
    fn activations(&self, stream: Stream) -> compress_core::Result<Symmetric> {
        if stream == self.measured.stream {
            Ok(self.measured.activations().clone())
        } else {
            let site = Site::new(stream.layer, stream.inlet.reader());
            self.survey.activations(site)
        }
    }

    fn attended(&self, layer: usize) -> compress_core::Result<Symmetric> {
        let here = (layer == self.measured.stream.layer).then(|| self.measured.attended());
        let site = Site::new(layer, Role::Key);
        let elsewhere = || self.survey.activations_by(site, Tokens::Attended);
        here.flatten().cloned().map_or_else(elsewhere, Ok)
    }

    fn output_gradients(&self, site: Site) -> compress_core::Result<Symmetric> {
        self.survey.output_gradients(site)
    }

    fn input_fisher(&self, site: Site) -> compress_core::Result<Vec<f64>> {
        self.survey.input_fisher(site)
    }
}
