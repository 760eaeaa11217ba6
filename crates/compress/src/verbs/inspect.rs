//! `compress inspect MODEL`: every weight's shape, bytes and singular spectrum.
//!
//! With `--against` a tuned weight is compared with the original's: effective ranks, and intruder dimensions
//! (`compress_tune::closest_originals`). Costs a singular value decomposition of each weight, multiplied out; threads
//! share the weights.

use std::{collections::BTreeMap, result::Result as StdResult};

use anyhow::Result;
use comfy_table::ColumnConstraint;
use compress_checkpoint::{Checkpoint, Tensor, names};
use compress_core::{DictionaryForm, Form, Matrix, Shape, Site};
use compress_numerics::{linalg::singular_values, side_by_side};
use compress_tune::{COSINE, LOOKED_AT, closest_originals};
use serde::{Serialize, Serializer};

use crate::{
    Outcome,
    args::Inspect,
    model::Opened,
    plot, progress,
    report::{self, figure},
    side,
};

/// The facts of one weight.
#[derive(Debug, Serialize)]
struct Row {
    /// The weight.
    site: Site,
    /// Its outputs.
    rows: usize,
    /// Its inputs.
    cols: usize,
    /// The form in which it is stored.
    #[serde(serialize_with = "in_words")]
    form: Form,
    /// The number format of its first tensor.
    dtype: String,
    /// Bytes of all of its tensors.
    bytes: usize,
    /// The rank from which on a pair of factors takes as many numbers as the weight.
    break_even_rank: f64,
    /// Its singular values in short; none where they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    spectrum: Option<Spectrum>,
    /// How it differs from the original's; none where there is no original.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
    /// All singular values, for the picture.
    #[serde(skip)]
    sigma: Vec<f64>,
}

/// A form as text, for programs as for people.
fn in_words<S: Serializer>(form: &Form, serializer: S) -> StdResult<S::Ok, S::Error> {
    serializer.collect_str(form)
}

/// A summary of a weight's singular values.
#[derive(Debug, Serialize)]
struct Spectrum {
    /// The largest.
    largest: f64,
    /// The one in the middle.
    median: f64,
    /// The smallest.
    smallest: f64,
    /// exp of the entropy of σ / Σσ: how many values share the weight (`RankMe`).
    effective_rank: f64,
    /// The rank that holds 90 % of Σσ².
    rank_of_90_percent: usize,
}

/// How a weight differs from the original's.
#[derive(Debug, Serialize)]
struct Change {
    /// The original's effective rank.
    effective_rank_before: f64,
    /// How many of the largest singular vectors no original one explains.
    intruders: usize,
    /// The least of their cosines to the closest original one.
    least_cosine: f32,
}

/// Looks at the chosen weights of the blocks, and prints what it found.
pub fn run(job: &Inspect) -> Result<Outcome> {
    let quiet = job.printing.quiet;
    let model = Opened::open(job.model.name.as_deref(), quiet)?;
    let original = job.against.as_deref();
    let original = original.map(|name| Opened::open(Some(name), quiet));
    let original = original.transpose()?;
    if let Some(original) = &original {
        original.check_original_of(&model)?;
    }
    let inputs: Vec<_> = model
        .inputs()
        .chain(original.iter().flat_map(Opened::inputs))
        .collect();
    side::check(job.plot.as_deref(), &inputs, None)?;
    let selection = job.sites.selection();
    // Of blocks only: embedding and head are rounded at the most, never cut.
    let sites: Vec<Site> = model
        .checkpoint
        .forms()
        .keys()
        .copied()
        .filter(|site| site.role().is_some() && selection.contains(*site))
        .collect();
    let bar = progress::bar("decomposing", sites.len(), quiet);
    let original = original.as_ref().map(|original| &original.checkpoint);
    let one = |index: usize| {
        let weight = weight(&model.checkpoint, original, sites[index], !job.no_spectra)?;
        bar.inc(1);
        anyhow::Ok(weight)
    };
    // A decomposition waits for parts of it, and a thread that waits must not begin another one.
    let weights = side_by_side(sites.len(), usize::MAX, one)?;
    bar.finish_and_clear();
    if let Some(path) = &job.plot {
        let spectra: Vec<_> = weights
            .iter()
            .map(|w| (w.site, w.sigma.as_slice()))
            .collect();
        plot::spectra::draw(path, &spectra)?;
    }
    if job.printing.json {
        report::print(json(&model, &weights)?)?;
    } else {
        print(&model, &weights)?;
    }
    Ok(Outcome::Kept)
}

/// The facts of one weight; the singular values only where `spectra` is true.
fn weight(
    model: &Checkpoint,
    original: Option<&Checkpoint>,
    site: Site,
    spectra: bool,
) -> Result<Row> {
    let shape = model.config().weight_shape(site);
    let form = model.forms().get(&site).copied().unwrap_or(Form::WHOLE);
    let parts = names::parts(site, form, shape).into_iter();
    let tensors = parts
        .map(|part| Ok(model.tensor(&part.name)?))
        .collect::<Result<Vec<&Tensor>>>()?;
    let (mut sigma, mut changed) = (Vec::new(), None);
    if spectra {
        // Multiplied out once, for the spectrum and for the comparison.
        let dense = dense(model, site)?;
        sigma = singular_values(&dense)?;
        let compare = |original| change(&dense, form, original, site);
        changed = original.map(compare).transpose()?;
    }
    Ok(Row {
        site,
        rows: shape.rows,
        cols: shape.cols,
        form,
        dtype: tensors
            .first()
            .map(|tensor| tensor.kind.to_string())
            .unwrap_or_default(),
        bytes: tensors.iter().map(|tensor| tensor.bytes()).sum(),
        break_even_rank: shape.break_even_rank(),
        spectrum: spectra.then(|| summary(&sigma)),
        change: changed,
        sigma,
    })
}

/// Compares a weight with the original's. No more directions than its rank: those beyond it belong to singular values
/// of 0, and could be any.
fn change(dense: &Matrix, form: Form, original: &Checkpoint, site: Site) -> Result<Change> {
    let before = self::dense(original, site)?;
    let count = form.rank().map_or(LOOKED_AT, |rank| LOOKED_AT.min(rank));
    let closest = closest_originals(&before, dense, count)?;
    Ok(Change {
        effective_rank_before: summary(&singular_values(&before)?).effective_rank,
        intruders: closest.iter().filter(|cosine| **cosine < COSINE).count(),
        least_cosine: closest.into_iter().fold(1.0, f32::min),
    })
}

/// A weight multiplied out; fails where a number is not finite, and says which.
fn dense(model: &Checkpoint, site: Site) -> Result<Matrix> {
    let dense = model.factor(site)?.dense()?;
    if let Some((row, column, value)) = dense.first_non_finite() {
        return Err(compress_core::Error::NonFinite {
            site,
            row,
            column,
            value,
        }
        .into());
    }
    Ok(dense)
}

/// The summary of singular values, largest first.
fn summary(sigma: &[f64]) -> Spectrum {
    let sum: f64 = sigma.iter().sum();
    let energy: f64 = sigma.iter().map(|s| s * s).sum();
    // 0 · ln 0 is 0 in an entropy, but not in floating point.
    let shares = sigma.iter().map(|s| s / sum).filter(|p| *p > 0.0);
    let entropy: f64 = shares.map(|p| -p * p.ln()).sum();
    let reached = sigma.iter().scan(0.0, |held, s| {
        *held += s * s;
        Some(*held)
    });
    Spectrum {
        largest: sigma.first().copied().unwrap_or_default(),
        median: sigma.get(sigma.len() / 2).copied().unwrap_or_default(),
        smallest: sigma.last().copied().unwrap_or_default(),
        effective_rank: entropy.exp(),
        rank_of_90_percent: reached.take_while(|held| *held < 0.9 * energy).count() + 1,
    }
}

/// All of it, for programs.
fn json(model: &Opened, weights: &[Row]) -> Result<String> {
    let config = model.checkpoint.config();
    Ok(serde_json::to_string(&serde_json::json!({
        "model": model.name,
        "architecture": config.architecture.model_type(),
        "layers": config.layers,
        "hidden": config.hidden,
        "bytes": model.checkpoint.file_bytes(),
        "parameters": model.checkpoint.parameters(),
        "weights": weights,
        "dictionaries": dictionaries(&model.checkpoint)?,
    }))?)
}

/// Atoms that several weights share, whose bytes are those of no weight.
#[derive(Debug, Serialize)]
struct Atoms {
    /// Their module.
    name: String,
    /// How many there are.
    count: usize,
    /// How many weights are mixtures of them.
    weights: usize,
    /// Their bytes in the file.
    bytes: usize,
}

/// The atoms of a model, in the order of their groups.
fn dictionaries(model: &Checkpoint) -> Result<Vec<Atoms>> {
    let mut members: BTreeMap<_, (DictionaryForm, usize)> = BTreeMap::new();
    for form in model.forms().values().filter_map(|form| form.dictionary()) {
        members.entry(form.group).or_insert((form, 0)).1 += 1;
    }
    let members = members.into_iter();
    let atoms = members.map(|(group, (form, weights))| {
        let shape = model.config().weight_shape(group.start());
        let parts = names::dictionary_parts(form, shape).into_iter();
        let bytes = parts.map(|part| Ok(model.tensor(&part.name)?.bytes()));
        Ok(Atoms {
            name: names::dictionary(group),
            count: form.atoms,
            weights,
            bytes: bytes.sum::<Result<usize>>()?,
        })
    });
    atoms.collect()
}

/// All of it as a table, for people.
fn print(model: &Opened, weights: &[Row]) -> Result<()> {
    let checkpoint = &model.checkpoint;
    let config = checkpoint.config();
    report::print(format_args!(
        "{}: {}, {} blocks of width {}, {} parameters, {}",
        model.name,
        config.architecture,
        config.layers,
        config.hidden,
        report::grouped(checkpoint.parameters()),
        report::size(checkpoint.file_bytes()),
    ))?;
    let mut table = report::plain([
        "site",
        "shape",
        "form",
        "dtype",
        "bytes",
        "σ max",
        "σ median",
        "σ min",
        "effective rank",
        "90 % rank",
        "break-even rank",
        "rank before",
        "intruders",
        "least cosine",
    ]);
    let compared = weights.iter().any(|weight| weight.change.is_some());
    if !compared {
        // The last three columns are those of a comparison.
        for column in table.column_iter_mut().skip(11) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    for weight in weights {
        let of = |f: fn(&Spectrum) -> String| weight.spectrum.as_ref().map(f).unwrap_or_default();
        let change = |f: fn(&Change) -> String| weight.change.as_ref().map(f).unwrap_or_default();
        table.add_row([
            weight.site.to_string(),
            Shape::new(weight.rows, weight.cols).to_string(),
            weight.form.to_string(),
            weight.dtype.clone(),
            report::size(weight.bytes),
            of(|s| figure(s.largest)),
            of(|s| figure(s.median)),
            of(|s| figure(s.smallest)),
            of(|s| format!("{:.1}", s.effective_rank)),
            of(|s| s.rank_of_90_percent.to_string()),
            format!("{:.1}", weight.break_even_rank),
            change(|c| format!("{:.1}", c.effective_rank_before)),
            change(|c| c.intruders.to_string()),
            change(|c| format!("{:.3}", c.least_cosine)),
        ]);
    }
    report::print(report::fitted(table))?;
    dictionaries(checkpoint)?.iter().try_for_each(tell_of)
}

/// A line for atoms that weights share.
fn tell_of(shared: &Atoms) -> Result<()> {
    let Atoms {
        name,
        count,
        weights,
        bytes,
    } = shared;
    let bytes = report::size(*bytes);
    report::print(format_args!(
        "{name}: {count} atoms in {bytes}, which {weights} weights share"
    ))
}
