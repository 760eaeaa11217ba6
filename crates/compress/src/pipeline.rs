//! From a budget to a plan, and what that makes of the output; the same for every method.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytesize::ByteSize;
use compress_checkpoint::{Checkpoint, Layout, OutputSpec};
use compress_core::{
    Budget, Edit, Factor, Form, LayerInput, Method, PairForm, Plan, Planned, Site, Step, Survey,
};
use serde_json::Value;

use crate::{
    job::{OutputForm, Planning, Target},
    model::Opened,
};

/// The plan that the arguments ask for: read from a file, or made for a budget or a size.
pub fn plan<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    arguments: &Planning,
) -> Result<Plan<M::Step>> {
    let mut forms = model.checkpoint.forms().iter();
    let factored = forms.any(|(site, form)| site.role().is_some() && *form != Form::WHOLE);
    ensure!(
        !(arguments.form.dense && factored),
        "{} has weights that are factored already, which --dense does not multiply out",
        model.name
    );
    ensure!(
        survey.sites().next().is_some(),
        "no weight to compress: --only and --skip leave none, or all are factored already"
    );
    match &arguments.target {
        Target::Plan(path) => read(path, model, survey),
        Target::Size(size) => fit(method, survey, model, arguments, *size),
        Target::Budget(budget) => for_budget(method, survey, model, *budget),
    }
}

fn for_budget<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    keep: Option<Budget>,
) -> Result<Plan<M::Step>> {
    let steps = method.plan(survey, keep)?;
    Ok(Plan::new(method.name(), model.id()?, keep, steps, survey)?)
}

fn read<S: Step>(path: &Path, model: &Opened, survey: &Survey<'_>) -> Result<Plan<S>> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read the plan {name}"))?;
    let plan: Plan<S> = Plan::parse(&text).with_context(|| name.to_string())?;
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

/// The options of a method that are used, for records: those that decide a plan are not where one is given.
pub fn options<M: Method>(method: &M, target: &Target) -> Result<Value> {
    let mut options = serde_json::to_value(method)?;
    let planned = matches!(target, Target::Plan(_));
    if let (Some(fields), true) = (options.as_object_mut(), planned) {
        fields.retain(|name, _| !M::PLANNING.contains(&name.as_str()));
    }
    Ok(options)
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
        let steps = method.plan(survey, Some(Budget::keep(keep)?))?;
        let forms = steps.iter().flat_map(Step::forms).collect();
        let spec = output_spec(&model.checkpoint, forms, &arguments.form);
        anyhow::Ok(Layout::new(&model.checkpoint, &spec)?.bytes() as u64)
    };
    let (mut fits, mut exceeds) = (f64::MIN_POSITIVE, 1.0);
    if bytes(exceeds)? <= size.as_u64() {
        return for_budget(method, survey, model, Some(Budget::ALL));
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
    for_budget(method, survey, model, Some(Budget::keep(fits)?))
}

/// The differences between output and source, once weights have the forms of a plan.
pub fn output_spec(
    source: &Checkpoint,
    planned: Vec<(Site, Form)>,
    form: &OutputForm,
) -> OutputSpec {
    let written = |planned| match (planned, form.factors) {
        _ if form.dense => Form::WHOLE,
        (Form::LowRank(PairForm { rank, .. }), Some(scheme)) => {
            Form::LowRank(PairForm::quantised(rank, scheme))
        }
        (planned, _) => planned,
    };
    let planned = planned.into_iter();
    let mut forms: BTreeMap<Site, Form> =
        planned.map(|(site, form)| (site, written(form))).collect();
    // What is rounded already stays as it is.
    let ends = source.forms().iter();
    let ends = ends.filter(|(site, form)| site.role().is_none() && **form == Form::WHOLE);
    if let Some(scheme) = form.ends {
        forms.extend(ends.map(|(site, _)| (*site, Form::quantised(scheme, 0))));
    }
    OutputSpec {
        forms,
        format: form.dtype,
    }
}

/// An edit as [`output_spec`] says that it is written.
pub fn written(edit: Edit, form: &OutputForm) -> Result<Edit> {
    if !form.dense {
        return Ok(edit);
    }
    let factor = Factor::whole(edit.factor.dense()?);
    Ok(Edit { factor, ..edit })
}

/// The weights that a step changes.
pub fn sites<S: Step>(planned: &Planned<S>) -> impl Iterator<Item = Site> {
    planned.step.forms().into_iter().map(|(site, _)| site)
}

/// The steps of a plan by the one input that the weights of each read.
pub fn by_input<S: Step>(plan: &Plan<S>) -> Result<BTreeMap<LayerInput, Vec<usize>>> {
    let mut by_input: BTreeMap<LayerInput, Vec<usize>> = BTreeMap::new();
    for (index, planned) in plan.steps.iter().enumerate() {
        let inputs: BTreeSet<_> = sites(planned).map(Site::input).collect();
        let [Some(input)] = inputs.iter().copied().collect::<Vec<_>>()[..] else {
            bail!("a step must change weights that read the same input; {planned:?} does not");
        };
        by_input.entry(input).or_default().push(index);
    }
    Ok(by_input)
}
