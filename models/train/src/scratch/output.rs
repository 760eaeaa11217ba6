//! The folder of a network: every weight whole, or as it was trained.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use compress_checkpoint::{Checkpoint, Input, Layout, Output, OutputSpec, Writer, names};
use compress_core::{Edit, Format, Matrix, Role, Site};
use compress_models::to_host;
use serde_json::Value;

use super::{
    attention::Structure,
    mixing::{Matrices, matrix},
    parts::norms,
    student::{Student, host},
};
use crate::folder::{self, Named};

/// The files of a tokenizer, of which the first must be there.
const TOKENIZER: [&str; 3] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Writes the network as a Llama in which every weight is whole, with a tokenizer.
pub fn write_dense(student: &Student, of: &Matrices, tokenizer: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for (place, name) in TOKENIZER.into_iter().enumerate() {
        let from = tokenizer.join(name);
        if place == 0 || from.exists() {
            let contents =
                fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            fs::write(to.join(name), contents)?;
        }
    }
    let config = Value::from(student.config.json.clone());
    fs::write(to.join("config.json"), format!("{config:#}\n"))?;
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, weight: Matrix| {
        let shape = vec![weight.rows(), weight.cols()];
        tensors.insert(name, (shape, weight.into_data()));
    };
    let embedding = names::weight(Site::Embedding);
    add(embedding.clone(), host(matrix(of, &embedding)?)?);
    for role in Role::ALL {
        for (layer, factor) in student.factors(role, of)?.iter().enumerate() {
            add(names::weight(Site::new(layer, role)), factor.dense()?);
        }
    }
    for norm in norms(student.size.layers).map(names::norm) {
        let gain: Named = (vec![student.size.hidden], to_host(matrix(of, &norm)?)?);
        tensors.insert(norm, gain);
    }
    folder::write(&tensors, Format::F32, to)
}

/// Writes the network as it was trained to `model` within `folder`: atoms once for all layers, pairs as two matrices.
/// `folder/dense` has it already with every weight whole.
pub fn write(student: &Student, of: &Matrices, folder: &Path) -> Result<()> {
    let (dense, model) = (folder.join("dense"), folder.join("model"));
    let structure = |role| student.attention.structure(role);
    let changed = || {
        Role::ALL
            .into_iter()
            .filter(|&role| structure(role) != Structure::Whole)
    };
    if changed().next().is_none() {
        return Ok(fs::rename(dense, model)?);
    }
    let sites =
        changed().flat_map(|role| (0..student.size.layers).map(move |l| Site::new(l, role)));
    let forms = sites.map(|site| (site, student.form(site))).collect();
    let spec = OutputSpec {
        forms,
        format: None,
    };
    let source = Checkpoint::open(&dense)?;
    let layout = Layout::new(&source, &spec)?;
    let output = Output::claim(&model, false, &[Input::Model(&dense)])?;
    let writer = Writer::begin(&source, &layout, output, "from scratch")?;
    for (step, role) in changed().enumerate() {
        if structure(role) == Structure::Shared {
            writer.put_dictionary(step, &student.dictionary(role, of)?)?;
        }
        let factors = student.factors(role, of)?.into_iter().enumerate();
        let edits = factors.map(|(layer, factor)| Edit {
            site: Site::new(layer, role),
            factor,
            error: 0.0,
        });
        writer.put(step, &edits.collect::<Vec<_>>())?;
    }
    writer.write_others()?;
    // Not published as an output of a compression: there is no model that it was made of.
    fs::rename(writer.model(), &model)?;
    Ok(writer.discard()?)
}
