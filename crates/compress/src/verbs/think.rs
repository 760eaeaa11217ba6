//! `compress run think MODEL -o OUT`: the model as it is, and a policy for its key-value cache beside it.
//!
//! No weight changes, so that there is no plan and nothing to calibrate: scores are taken of each prompt when it is read.

mod words;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use compress_calibrate::cache_errors;
use compress_checkpoint::{
    CACHE_POLICY, Card, Checkpoint, Input, Layout, Output, OutputSpec, Record, Writer,
};
use compress_core::f16;
use compress_evaluate::Protocol;
use compress_think::{Format, LayerPolicy, Policy, allocate};
use serde_json::{Value, json};

use crate::{
    Outcome,
    args::Think,
    evidence::Bar,
    interrupt,
    model::Opened,
    report,
    scoring::{Baseline, ModelReport, ScoringText},
    text,
    verbs::run::{goes_on, leave, not_evaluated, publish},
};

/// Writes model and policy, and prints what they cost.
pub fn run(job: &Think) -> Result<Outcome> {
    let (json, text) = perform(job, None)?;
    if job.printing.json {
        report::print(json)?;
    } else {
        report::print(text)?;
    }
    Ok(Outcome::Kept)
}

/// Writes model and policy, and runs the model with a whole cache and under the policy; in a comparison with a whole cache
/// it has been run. Gives the report for programs, and for people.
pub fn perform(job: &Think, baseline: Option<&Baseline<'_>>) -> Result<(Value, String)> {
    job.policy.check()?;
    let mut model = Opened::open(job.model.name.as_deref(), job.printing.quiet)?;
    // The source may have a policy of its own, which this one replaces and is not measured against.
    model.checkpoint.set_cache_policy(None);
    let checkpoint = &model.checkpoint;
    let texts = [&job.text.file, &job.calibrate].into_iter().flatten();
    let texts = texts.map(|path| Input::Other(path));
    let inputs: Vec<Input<'_>> = model.inputs().chain(texts).collect();
    let output = Output::claim(&job.output, job.force, &inputs)?;
    let text = match baseline {
        Some(baseline) => Some(baseline.text.clone()),
        None => scoring_text(job, checkpoint)?,
    };
    let policy = policy(job, checkpoint)?;
    let layout = Layout::new(checkpoint, &OutputSpec::default())?;
    let task = json!({ "method": "think", "policy": policy, "source": model.id()? });
    interrupt::say(Some(goes_on(&output.work())));
    let writer = Writer::begin(checkpoint, &layout, output, &task.to_string())?;
    let written = writer.write_others().map_err(Into::into);
    if let Err(error) = written.and_then(|()| write(&policy, &writer)) {
        return Err(leave(error, writer));
    }
    let record = |report| record(job, (&model, &policy), report);
    let published = publish(writer, &record(None)?, &card(job, &policy, String::new()))?;
    let words = words::in_words(&policy);
    let mut report = json!({
        "method": "think",
        "model": model.name,
        "output": job.output.to_string_lossy(),
        "policy": policy,
    });
    let mut told = vec![format!(
        "{}: {}, whose cache {words}",
        job.output.display(),
        model.name
    )];
    if let Some(text) = text {
        let (before, after) = measure(&text, (checkpoint, baseline), published.path(), job)?;
        report["text"] = text.describe();
        report["before"] = serde_json::to_value(&before)?;
        report["after"] = serde_json::to_value(&after)?;
        let table = report::before_and_after(&before, &after);
        let of_card = format!("Measured on {}:\n\n{table}\n\n", text.title());
        let card = card(job, &policy, of_card);
        published.describe(&record(Some(report.clone()))?, &card)?;
        told.extend([text.title(), table.to_string()]);
    }
    interrupt::say(None); // all is done that it could speak of
    Ok((report, told.join("\n")))
}

/// The model with a whole cache, and under the policy.
fn measure(
    text: &ScoringText,
    (source, baseline): (&Checkpoint, Option<&Baseline<'_>>),
    written: &Path,
    job: &Think,
) -> Result<(ModelReport, ModelReport)> {
    let thin = Checkpoint::open(written)?;
    let measured = match baseline {
        Some(baseline) => baseline.compare(&thin, job.printing.quiet),
        None => text.compare(source, &thin, job.printing.quiet),
    };
    measured.with_context(|| not_evaluated(written))
}

/// The policy that the options ask for; with `--per-layer` it is measured for.
fn policy(job: &Think, model: &Checkpoint) -> Result<Policy> {
    let mut common = job.policy.policy();
    if job.per_layer.is_some() {
        // What layers choose among; the usual λ is for those who choose it.
        common.keys.lambda = 0.0;
        common.fold = true;
        common.sinks = job.policy.sinks_of_rounded();
    }
    let mut policy = Policy::new(common, model.config().head_shape())?;
    ensure!(
        model.config().sliding_window.is_none(),
        "{} has sliding-window attention, which limits its cache by itself: policies are not followed there",
        model.path().display()
    );
    if let Some(share) = job.per_layer {
        policy.layers = per_layer(job, model, common, share)?;
    }
    Ok(policy)
}

/// The text that the model is run over, if it is: half of each window is the prompt, unless told otherwise.
fn scoring_text(job: &Think, model: &Checkpoint) -> Result<Option<ScoringText>> {
    if job.no_evaluate {
        return Ok(None);
    }
    let mut arguments = job.text.job();
    ensure!(
        arguments.documents.is_none() || arguments.split.is_some(),
        "documents have no half that all share: give --split, the tokens of each that are a prompt"
    );
    let split = prompt(job, model);
    arguments.split = Some(split);
    let policy = job.policy.policy();
    if split <= policy.recent.saturating_add(policy.sinks) && !policy.fold {
        tell!(
            "warning: the prompt of {split} tokens has none between the first {} and the {} most recent: nothing of it is \
             thinned",
            policy.sinks,
            policy.recent
        );
    } else if split < policy.window {
        tell!(
            "note: the prompt has {split} tokens, fewer than the window of {}: all of its queries are in it",
            policy.window
        );
    }
    let text = ScoringText::new(&arguments, model, job.resources.job())?;
    text.check_room(model, 2)?;
    Ok(Some(text))
}

/// Tokens of each window that are a prompt.
fn prompt(job: &Think, model: &Checkpoint) -> usize {
    let text = job.text.job();
    text.split.unwrap_or(text.context(model.config()) / 2)
}

/// Writes the policy into the unfinished model.
fn write(policy: &Policy, writer: &Writer<'_>) -> Result<()> {
    let path = writer.model().join(CACHE_POLICY);
    let text = serde_json::to_string_pretty(policy)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Windows of the text that `--per-layer` measures on.
fn samples(job: &Think) -> usize {
    job.samples.unwrap_or(4)
}

/// The record beside the model: all that its policy was made by.
fn record(
    job: &Think,
    (model, policy): (&Opened, &Policy),
    report: Option<Value>,
) -> Result<Record> {
    let measured = job.per_layer.map(|share| {
        json!({
            "text": job.calibrate,
            "windows": samples(job),
            "context": job.text.job().context(model.checkpoint.config()),
            "share": share,
        })
    });
    Ok(Record {
        made_by: format!("compress {}", env!("CARGO_PKG_VERSION")),
        method: "think".into(),
        options: serde_json::to_value(policy)?,
        calibration: measured,
        refit: Value::Null,
        source: model.id()?,
        format: model.checkpoint.format().to_string(),
        dense: false,
        plan: Value::Null,
        decided_by: None,
        errors: Value::Null,
        report,
        before: Record::of(&model.checkpoint),
    })
}

/// The model card, with what other programs can do in place of the policy.
fn card(job: &Think, policy: &Policy, measured: String) -> Card {
    report::card(&job.output, measured + &words::elsewhere(policy))
}

/// A policy for each layer: the one of least error on a calibration text, for old tokens that take `share` of the bytes of
/// 16-bit floats.
fn per_layer(
    job: &Think,
    model: &Checkpoint,
    common: LayerPolicy,
    share: f64,
) -> Result<BTreeMap<usize, LayerPolicy>> {
    let path = job.calibrate.as_deref().context(
        "--per-layer measures on a text: give --calibrate FILE, but not the text that the result is judged by",
    )?;
    let context = job.text.job().context(model.config());
    let protocol = Protocol {
        context,
        windows: Some(samples(job)),
        bos: false,
        documents: None,
    };
    let tokenizer = model.tokenizer()?;
    let windows = protocol.cut(&text::read(path)?, &tokenizer, model.config().bos);
    let windows = windows.with_context(|| format!("cannot calibrate on {}", path.display()))?;
    let split = prompt(job, model);
    ensure!(
        split > common.recent.saturating_add(common.sinks) && split < context,
        "--per-layer measures on prompts of {split} tokens of {context}, none of which lies between the first {} and the {} \
         most recent: give a larger --ctx or --split",
        common.sinks,
        common.recent
    );
    let candidates = candidates(common);
    // What the model's heads do not allow is refused before the work.
    for candidate in &candidates {
        Policy::new(*candidate, model.config().head_shape())?;
    }
    let bar = Bar::new(job.printing.quiet);
    let errors = cache_errors(model, (&windows, split), &candidates, &bar)?;
    let size = model.config().head_size;
    let costs: Vec<f64> = candidates
        .iter()
        .map(|policy| policy.bytes_of_old(size))
        .collect();
    let budget = share * (2 * size_of::<f16>() * size * model.config().layers) as f64;
    let chosen = allocate(&errors, &costs, budget).with_context(|| {
        let least = costs.iter().copied().fold(f64::INFINITY, f64::min) / (4 * size) as f64;
        format!("--per-layer {share} cannot be reached: the least is {least:.3}")
    })?;
    let layers = chosen
        .into_iter()
        .map(|choice| candidates[choice])
        .enumerate();
    Ok(layers.collect())
}

/// The policies that layers choose among: bits of keys and of values.
fn candidates(common: LayerPolicy) -> Vec<LayerPolicy> {
    const KEYS: [f64; 9] = [8.5, 4.5, 4.0, 3.5, 3.25, 3.0, 2.75, 2.5, 2.0];
    const VALUES: [u8; 4] = [8, 4, 3, 2];
    let mut all = Vec::new();
    for keys in KEYS {
        for values in VALUES {
            let mut policy = common;
            policy.keys.format = Format::Mixed { bits: keys };
            policy.values.format = Format::Rotated { bits: values };
            // Widths of keys and values that differ by more are never chosen.
            if (keys - f64::from(values)).abs() <= 4.5 {
                all.push(policy);
            }
        }
    }
    all
}
