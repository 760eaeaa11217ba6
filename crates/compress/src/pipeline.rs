//! From a budget to a plan, and from a plan to the forms of an output; the same for every method.
//!
//! No weight is compressed here. `verbs/plan.rs` prints what this makes, `verbs/run.rs` hands it to `task`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytesize::ByteSize;
use compress_checkpoint::{Checkpoint, Layout, OutputSpec};
use compress_core::{
    Budget, DictionaryForm, Edit, Factor, Form, LayerInput, Method, PairForm, Plan, Planned,
    Precision, Site, Step, Survey,
};
use serde_json::Value;

use crate::{
    job::{OutputForm, Planning, Target},
    model::Opened,
};

/// The plan that the arguments ask for: read from a file, or made for a budget or a size.
///
/// Fails where no weight is left to compress, where a plan does not fit the model, and where a size cannot be
/// reached.
pub fn plan<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    arguments: &Planning,
) -> Result<Plan<M::Step>> {
    // Such weights would have to be written in the form that they have: --dense would leave them factored.
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

/// What decided a plan beside options and budget; none of one that is read, whose reasons are not known.
pub fn decided_by<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    arguments: &Planning,
) -> Result<Option<Value>> {
    match arguments.target {
        Target::Plan(_) => Ok(None),
        Target::Size(_) | Target::Budget(_) => Ok(method.decided_by(survey)?),
    }
}

/// The plan of a method for a budget; for a method that takes none, `keep` is none.
fn for_budget<M: Method>(
    method: &M,
    survey: &Survey<'_>,
    model: &Opened,
    keep: Option<Budget>,
) -> Result<Plan<M::Step>> {
    let steps = method.plan(survey, keep)?;
    let plan = Plan::new(method.name(), model.id()?, keep, steps, survey)?;
    plan.check(survey)?; // as one that is read
    Ok(plan)
}

/// The plan in a file, which may have been edited by hand.
fn read<S: Step>(path: &Path, model: &Opened, survey: &Survey<'_>) -> Result<Plan<S>> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read the plan {name}"))?;
    let plan: Plan<S> = Plan::parse(&text).with_context(|| name.to_string())?;
    let id = model.id()?;
    // The name may differ, since a model can be moved; its weights may not: errors and ranks were those of other
    // ones.
    if plan.source.digest != id.digest {
        bail!(
            "{name} was made for {}, whose weights are not those of {}",
            plan.source.name,
            id.name
        );
    }
    plan.check(survey)
        .with_context(|| format!("{name} does not fit the model"))?;
    // Made anew from its steps: counts of parameters and the list of whole weights are this model's, whatever the
    // file says.
    let steps = plan.steps.into_iter().map(|planned| planned.step);
    Ok(Plan::new(
        &plan.method,
        id,
        plan.keep,
        steps.collect(),
        survey,
    )?)
}

/// The options of a method that are used, for records and for the comparison of runs: those that decide a plan are
/// left out where one is given, since they decide nothing then.
pub fn options<M: Method>(method: &M, target: &Target) -> Result<Value> {
    let mut options = serde_json::to_value(method)?;
    let planned = matches!(target, Target::Plan(_));
    if let (Some(fields), true) = (options.as_object_mut(), planned) {
        fields.retain(|name, _| !M::PLANNING.contains(&name.as_str()));
    }
    Ok(options)
}

/// The plan with the largest budget whose weight files are no larger than `size`, found by bisection.
///
/// A layout knows the bytes of the files before any work, so that each trial costs a plan and no compression. Fails
/// where the size is not reached at rank 1 everywhere.
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
    // The model is small enough as it is, in the format in which it would be written.
    if bytes(exceeds)? <= size.as_u64() {
        return for_budget(method, survey, model, Some(Budget::ALL));
    }
    // Methods keep at least rank 1, so that the least budget gives the smallest output.
    let least = bytes(fits)?;
    ensure!(
        least <= size.as_u64(),
        "{size} cannot be reached: at rank 1 everywhere the weight files still take {}",
        ByteSize(least)
    );
    // 40 halvings: the fraction is then known to 1e-12. `fits` holds throughout, so that the result is never too
    // large.
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
///
/// The layout follows from this before any work: what is written later has to agree with it, see [`written`].
pub fn output_spec(
    source: &Checkpoint,
    planned: Vec<(Site, Form)>,
    form: &OutputForm,
) -> OutputSpec {
    let written = |planned| match (planned, form.factors) {
        // Factors are multiplied out again on their way to the file.
        _ if form.dense => Form::WHOLE,
        // The pairs alone are rounded: lorc's corrections stay in floats, and weights that stay whole are not
        // touched.
        (Form::LowRank(PairForm { rank, .. }), Some(scheme)) => {
            Form::LowRank(PairForm::quantised(rank, scheme))
        }
        (
            Form::Shared {
                dictionary,
                residual,
            },
            Some(scheme),
        ) => Form::Shared {
            dictionary: DictionaryForm {
                precision: Precision::Quantised(scheme),
                ..dictionary
            },
            residual: residual.map(|pair| PairForm::quantised(pair.rank, scheme)),
        },
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

/// An edit as [`output_spec`] says that it is written. Factors are rounded by the method, which reports their error;
/// only multiplying out is left to do.
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

/// The steps of a plan by the layer input that their weights read, as indices, in the order of blocks.
///
/// They are compressed together, and share what is made of that input. Steps that make atoms are not among them. Fails
/// where a step changes weights of different inputs, or one that reads none.
pub fn by_input<S: Step>(plan: &Plan<S>) -> Result<BTreeMap<LayerInput, Vec<usize>>> {
    let mut by_input: BTreeMap<LayerInput, Vec<usize>> = BTreeMap::new();
    let of_weights = plan.steps.iter().enumerate();
    for (index, planned) in of_weights.filter(|(_, it)| it.step.dictionary().is_none()) {
        let inputs: BTreeSet<_> = sites(planned).map(Site::input).collect();
        let [Some(input)] = inputs.iter().copied().collect::<Vec<_>>()[..] else {
            bail!("a step must change weights that read the same input; {planned:?} does not");
        };
        by_input.entry(input).or_default().push(index);
    }
    Ok(by_input)
}
