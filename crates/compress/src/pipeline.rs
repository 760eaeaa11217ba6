//! From a budget to a plan, and what that makes of the output; the same for every method.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use bytesize::ByteSize;
use compress_checkpoint::{Edits, Layout};
use compress_core::{Budget, Edit, Factor, Form, Method, Plan, Site, Survey};
use serde_json::Value;

use crate::{
    args::{OutputForm, Planning, Target},
    model::Opened,
};

/// What is kept where the user says nothing.
const KEEP: f64 = 0.8;

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
    if let (Some(fields), true) = (options.as_object_mut(), target.plan.is_some()) {
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
pub fn written(edit: Edit, form: &OutputForm) -> Result<(Site, Factor, f64)> {
    let Edit::Replace {
        site,
        factor,
        error,
    } = edit;
    let factor = if form.dense {
        Factor::Whole(factor.dense()?)
    } else {
        factor
    };
    Ok((site, factor, error))
}
