//! `compress compare MODEL VARIANTS.toml`: several runs under one protocol, in one table.
//!
//! The original is run once; each variant is then a `run` of its own, with its options parsed as if they had been
//! typed. Without `--output` a variant's model is removed once it is measured.

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use compress_checkpoint::{Checkpoint, Input};
use serde_json::{Value, json};

use crate::{
    Outcome,
    args::{Arguments, Compare, RunMethod, Verb},
    cache,
    job::Text,
    memory,
    model::Opened,
    passing::Passing,
    plot, progress,
    report::comparison::{self, Row, VariantOutcome},
    scoring::{Baseline, ScoringText},
    side,
    verbs::{self, run},
};

/// Options that make figures comparable, and so are no variant's own.
const SHARED: [&str; 13] = [
    "text",
    "also-text",
    "ctx",
    "windows",
    "split",
    "bos",
    "documents",
    "device",
    "memory",
    "no-evaluate",
    "output",
    "json",
    "quiet",
];

/// A named set of arguments of `run`.
struct Variant {
    /// Its name, and that of its folder.
    name: String,
    /// The method and its options.
    words: Vec<String>,
}

impl Variant {
    /// Whether it is a cache policy.
    fn thins(&self) -> bool {
        self.words.first().is_some_and(|word| word == "think")
    }
}

/// Makes and measures all variants, and prints them. One that fails does not stop the others.
pub fn run(job: &Compare) -> Result<Outcome> {
    let variants = match &job.variants {
        Some(path) => read(path)?,
        None => crossed(&job.methods, &job.keep)?,
    };
    check_names(&variants)?;
    // All that can be refused is refused before the original is run.
    side::check(job.plot.as_deref(), &inputs(job), None)?;
    // Only with --output: in the passing folder there is nothing that anyone reads.
    if let Some(folder) = &job.output {
        for variant in &variants {
            check_place(&folder.join(&variant.name), &inputs(job))?;
        }
    }
    // Without a place of their own the models lie where nothing else does.
    let passing = Passing::new()?;
    let folder = job.output.as_deref().unwrap_or(passing.path());
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // What all variants are measured against is run once.
    let model = original(job, &variants)?;
    let baselines = baselines(job, &variants, &model, passing.path())?;
    let bar = progress::bar("variants", variants.len(), job.printing.quiet);
    let mut rows = Vec::new();
    for variant in variants {
        let place = folder.join(&variant.name);
        let outcome = match measure(job, &variant, &place, &baselines) {
            Ok(report) => VariantOutcome::Report(report),
            // A failure is a result, too: it is shown in the table, and the other variants go on.
            Err(error) => VariantOutcome::Error(format!("{error:#}")),
        };
        // Its figures are there, and the next one needs the disk.
        if job.output.is_none() && place.exists() {
            fs::remove_dir_all(&place)
                .with_context(|| format!("cannot remove {}", place.display()))?;
        }
        // A long comparison may be read while it runs.
        bar.println(comparison::line(&variant.name, &outcome));
        bar.inc(1);
        rows.push(Row {
            name: variant.name,
            command: variant.words.join(" "),
            outcome,
        });
    }
    bar.finish_and_clear();
    comparison::print(job.printing.json, &rows)?;
    if let Some(path) = &job.plot {
        plot::comparison::draw(path, &rows)?;
    }
    // A table with gaps is not what was promised.
    let failed = |row: &Row| matches!(row.outcome, VariantOutcome::Error(_));
    Ok(if rows.iter().any(failed) {
        Outcome::Broken
    } else {
        Outcome::Kept
    })
}

/// What all variants are made of, and measured against.
fn original(job: &Compare, variants: &[Variant]) -> Result<Opened> {
    let mut model = Opened::open(job.model.name.as_deref(), job.printing.quiet)?;
    if variants.iter().any(Variant::thins) {
        // Policies are measured against a whole cache.
        model.checkpoint.set_cache_policy(None);
    }
    Ok(model)
}

/// The original's figures on each of the texts, measured once; what they rest on lies in `folder`, since nobody needs
/// it afterwards.
fn baselines<'a>(
    job: &Compare,
    variants: &[Variant],
    model: &'a Opened,
    folder: &Path,
) -> Result<Vec<Baseline<'a>>> {
    let mut texts = vec![job.text.job()];
    if let Some(file) = &job.also_text {
        let file = Some(file.clone());
        texts.push(Text {
            file,
            ..job.text.job()
        });
    }
    // All are read before the first is scored: what is wrong with them shows before the work.
    let texts = texts
        .into_iter()
        .map(|text| scoring_text(job, text, variants, model));
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let one = |(index, text): (usize, &ScoringText)| {
        let states = folder.join(format!("original-{index}.states"));
        text.baseline(&model.checkpoint, &states, job.printing.quiet)
    };
    texts.iter().enumerate().map(one).collect()
}

/// A text that all are run over.
fn scoring_text(
    job: &Compare,
    mut arguments: Text,
    variants: &[Variant],
    model: &Opened,
) -> Result<ScoringText> {
    // A cache policy shows only behind a prompt, which all variants then have.
    if variants.iter().any(Variant::thins) {
        let context = arguments.context(model.checkpoint.config());
        arguments.split.get_or_insert(context / 2);
    }
    ScoringText::new(&arguments, &model.checkpoint, job.resources.job())
}

/// Refuses a place for a variant in which the comparison reads something: a run may replace what is there.
fn check_place(place: &Path, inputs: &[Input<'_>]) -> Result<()> {
    for Input::Model(input) | Input::Other(input) in inputs {
        let within = |place: PathBuf| input.canonicalize().is_ok_and(|it| it.starts_with(place));
        ensure!(
            !place.canonicalize().is_ok_and(within),
            "{} is read by this comparison, which writes a model to {}; choose another name",
            input.display(),
            place.display()
        );
    }
    Ok(())
}

/// The report of a variant as `compress run` gives it, with its figures on the other texts.
fn measure(
    job: &Compare,
    variant: &Variant,
    place: &Path,
    baselines: &[Baseline<'_>],
) -> Result<Value> {
    let [first, others @ ..] = baselines else {
        bail!("there is no text to score");
    };
    let own_peak = memory::forget_peak();
    let mut report = compressed(job, variant, place, first)?;
    if !own_peak {
        // It may be that of another variant.
        report["peak_bytes"] = Value::Null;
    }
    if let (None, Some(report)) = (&job.output, report.as_object_mut()) {
        // The model goes: a record of the comparison names no place where nothing is.
        report.remove("output");
    }
    for baseline in others {
        let (before, after) = baseline.compare(&Checkpoint::open(place)?, job.printing.quiet)?;
        report["also"] =
            json!({ "text": baseline.text.describe(), "before": before, "after": after });
    }
    Ok(report)
}

/// Runs a variant as `compress run` would, and gives its report.
///
/// Fails, in the words of the command line, where an option is not one of the method.
fn compressed(
    job: &Compare,
    variant: &Variant,
    place: &Path,
    baseline: &Baseline<'_>,
) -> Result<Value> {
    let mut words: Vec<String> = vec!["compress".into(), "run".into()];
    words.extend(variant.words.iter().cloned());
    words.extend(job.model.name.clone());
    words.extend([
        "--output".into(),
        place.display().to_string(),
        "--quiet".into(),
    ]);
    // Parsed, not built: a variant means what the same words mean on a command line.
    let arguments = Arguments::try_parse_from(&words).map_err(|e| {
        let text = e.render().to_string();
        // The first line says what is wrong; help on usage follows, which is of no use in a table.
        let text = text.lines().next().unwrap_or_default().to_owned();
        anyhow::anyhow!(text.trim_start_matches("error: ").to_owned())
    })?;
    let Verb::Run { method } = arguments.verb else {
        bail!("`{}` is no method", variant.words.join(" "));
    };
    let method = match method {
        RunMethod::Weights(method) => method,
        RunMethod::Think(mut think) => {
            think.calibrate = think.calibrate.or(job.calibration.calibrate.clone());
            think.samples = think.samples.or(job.calibration.samples);
            think.text = job.text.clone();
            think.resources = job.resources;
            return Ok(verbs::think::perform(&think, Some(baseline))?.0);
        }
    };
    let mut running = method.job()?;
    // The same for all, whatever the usual values of `run` are.
    running.text = job.text.job();
    running.planning.machine = job.resources.job();
    running
        .planning
        .calibration
        .complete(&job.calibration.job());
    // Variants share what is measured: in a folder that was given, or in the cache, where it also stays for a next
    // comparison.
    let evidence = &mut running.planning.calibration.evidence;
    *evidence = evidence.take().or_else(|| cache::evidence().ok());
    let done = run::perform(&method, running, Some(baseline), job.output.is_some())?;
    ensure!(
        done.outcome == Outcome::Kept,
        "the output has not the size that was promised"
    );
    Ok(done.json)
}

/// The variants of a file with a table for each: `[name]`, `method = "svd"`, and any option of `run` by its name.
/// Whether a method has such an option shows when the variant is run.
fn read(path: &Path) -> Result<Vec<Variant>> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let tables: toml::Table =
        toml::from_str(&text).with_context(|| format!("{name} is not TOML"))?;
    ensure!(
        !tables.is_empty(),
        "{name} holds no variant: write a table `[name]` for each"
    );
    let variant = |(variant, options): (String, toml::Value)| {
        let toml::Value::Table(mut options) = options else {
            bail!("{name}: `{variant}` is no table of options");
        };
        let Some(toml::Value::String(method)) = options.remove("method") else {
            bail!("{name}: `{variant}` does not say its method, as in `method = \"svd\"`");
        };
        let mut words = vec![method];
        for (option, value) in options {
            ensure!(
                // Figures of variants under different protocols must not stand in one table.
                !SHARED.contains(&option.as_str()),
                "{name}: `{option}` of `{variant}` is the same for all variants; give it on the command line"
            );
            push(&mut words, &option, &value)
                .with_context(|| format!("{name}: `{option}` of `{variant}`"))?;
        }
        Ok(Variant {
            name: variant,
            words,
        })
    };
    tables.into_iter().map(variant).collect()
}

/// Names become folders within one: each must be a folder's name and nothing more, and its own.
fn check_names(variants: &[Variant]) -> Result<()> {
    let mut seen = HashSet::new();
    for Variant { name, .. } in variants {
        // `..`, an absolute path and a name with a separator would all lead out of the folder, or deeper into it.
        let mut parts = Path::new(name).components();
        let plain = parts.next() == Some(Component::Normal(name.as_ref()));
        ensure!(
            plain && parts.next().is_none(),
            "`{name}` is no name for a variant, which is a folder's name"
        );
        ensure!(seen.insert(name), "two variants are called `{name}`");
    }
    Ok(())
}

/// The paths that the comparison itself reads; those of a variant's own options its run checks.
fn inputs(job: &Compare) -> Vec<Input<'_>> {
    let files = [
        &job.variants,
        &job.text.file,
        &job.also_text,
        &job.calibration.calibrate,
    ];
    let files = files.into_iter().flatten();
    let model = job.model.name.iter().map(Path::new);
    let paths = files.map(PathBuf::as_path).chain(model);
    paths.map(Input::Other).collect()
}

/// An option as words of a command line: `true` is a flag, `false` none, a list is the option several times.
fn push(words: &mut Vec<String>, option: &str, value: &toml::Value) -> Result<()> {
    let flag = format!("--{option}");
    match value {
        toml::Value::Boolean(true) => words.push(flag),
        toml::Value::Boolean(false) => {}
        toml::Value::String(text) => words.extend([flag, text.clone()]),
        toml::Value::Integer(number) => words.extend([flag, number.to_string()]),
        toml::Value::Float(number) => words.extend([flag, number.to_string()]),
        toml::Value::Array(values) => {
            for value in values {
                push(words, option, value)?;
            }
        }
        _ => bail!("is neither a text, a number, true or false, nor a list of these"),
    }
    Ok(())
}

/// Every method at every kept fraction, named `METHOD-FRACTION`.
fn crossed(methods: &[String], keep: &[String]) -> Result<Vec<Variant>> {
    ensure!(
        !methods.is_empty() && !keep.is_empty(),
        "say what to compare: a file of variants, or --methods and --keep"
    );
    let one = |method: &String, keep: &String| Variant {
        name: format!("{method}-{keep}"),
        words: vec![method.clone(), "--keep".into(), keep.clone()],
    };
    let pairs = methods
        .iter()
        .flat_map(|method| keep.iter().map(move |keep| one(method, keep)));
    Ok(pairs.collect())
}
