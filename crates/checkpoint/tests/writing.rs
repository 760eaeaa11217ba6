//! Outputs are whole or absent, in shards where they are large, and go on where they were left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use compress_checkpoint::{Card, Checkpoint, Error, Input, Layout, Output, OutputSpec, Writer};
use compress_core::{Bits, Edit, Factor, Form, Matrix, Quantised, Role, Scheme, Site, Store};
use compress_numerics::Random;

use crate::common::record;

fn source() -> Checkpoint {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks/llama_biased");
    Checkpoint::open(&fixture).unwrap()
}

const SITE: Site = Site::new(1, Role::Down);

/// A pair of factors for one weight.
fn pair(source: &Checkpoint) -> Factor {
    let shape = source.config().weight_shape(SITE);
    let mut random = Random(1);
    let up = random.matrix(shape.rows, 3);
    Factor::low_rank(up, random.matrix(3, shape.cols))
}

fn edit(factor: Factor, error: f64) -> Edit {
    Edit {
        site: SITE,
        factor,
        error,
    }
}

fn spec() -> OutputSpec {
    OutputSpec {
        forms: [(SITE, Form::low_rank(3))].into(),
        ..OutputSpec::default()
    }
}

fn card() -> Card {
    Card {
        name: "out".into(),
        table: String::new(),
        command: "a test".into(),
    }
}

fn claim(source: &Checkpoint, target: &Path, force: bool) -> Result<Output, Error> {
    Output::claim(target, force, &[Input::Model(source.path())])
}

fn write(source: &Checkpoint, layout: &Layout, target: &Path) -> PathBuf {
    let output = claim(source, target, false).unwrap();
    let writer = Writer::begin(source, layout, output, "task").unwrap();
    writer.put(0, &[edit(pair(source), 0.5)]).unwrap();
    writer.write_others().unwrap();
    writer.publish(&record(), &card()).unwrap();
    target.to_owned()
}

#[test]
fn small_shards_hold_the_same_model_as_one_file() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let whole = Layout::new(&source, &spec()).unwrap();
    let sharded = Layout::with_shards_of(&source, &spec(), 10_000).unwrap();
    let whole = Checkpoint::open(&write(&source, &whole, &place.path().join("whole"))).unwrap();
    let folder = write(&source, &sharded, &place.path().join("sharded"));
    let shards = fs::read_dir(&folder).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".safetensors")
    });
    assert!(shards.count() > 3);
    let sharded = Checkpoint::open(&folder).unwrap();
    assert_eq!(whole.tensors().len(), sharded.tensors().len());
    for name in whole.tensors().keys() {
        assert_eq!(
            whole.raw(name).unwrap(),
            sharded.raw(name).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_layout_foretells_the_size_of_the_files() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    for limit in [usize::MAX, 20_000] {
        let layout = Layout::with_shards_of(&source, &spec(), limit).unwrap();
        let folder = write(&source, &layout, &place.path().join(limit.to_string()));
        let written = Checkpoint::open(&folder).unwrap();
        assert_eq!(written.file_bytes(), layout.bytes());
        assert_eq!(written.parameters(), layout.parameters());
    }
}

#[test]
fn factors_come_back_as_they_were_put() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let layout = Layout::new(&source, &spec()).unwrap();
    let written = Checkpoint::open(&write(&source, &layout, &place.path().join("out"))).unwrap();
    assert_eq!(written.factor(SITE).unwrap(), pair(&source));
}

#[test]
fn what_belongs_to_the_model_comes_along_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("source");
    copy(source().path(), &folder);
    let templates = "additional_chat_templates";
    for name in [templates, "onnx", ".git"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let along = [
        "LICENSE",
        "chat_template.jinja",
        "tokenizer.model",
        "additional_chat_templates/tool_use.jinja",
    ];
    let left = [
        "pytorch_model.bin",
        "x.gguf",
        "onnx/x.json",
        ".git/x",
        "additional_chat_templates/x.bin",
    ];
    for name in along.iter().chain(&left) {
        fs::write(folder.join(name), *name).unwrap();
    }
    let card = "---\nlicense: other\nlicense_name: x\ntags: [y]\nlanguage:\n- en\n---\n# Source\n";
    fs::write(folder.join("README.md"), card).unwrap();
    let source = Checkpoint::open(&folder).unwrap();
    let layout = Layout::new(&source, &spec()).unwrap();
    let written = write(&source, &layout, &place.path().join("out"));
    for name in along {
        assert_eq!(fs::read_to_string(written.join(name)).unwrap(), name);
    }
    for name in left {
        assert!(!written.join(name).exists(), "{name}");
    }
    let card = fs::read_to_string(written.join("README.md")).unwrap();
    let header =
        "tags: [compress, none]\nlicense: other\nlicense_name: x\nlanguage:\n- en\n---\n# out";
    assert!(card.contains(header) && card.starts_with("---\n"), "{card}");
}

#[test]
fn embedding_and_head_are_rounded_on_their_way() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let scheme = Scheme::symmetric(Bits::Eight, None);
    let ends = [Site::Embedding, Site::Head];
    let rounded = Form::quantised(scheme, 0);
    let mut spec = spec();
    spec.forms.extend(ends.map(|site| (site, rounded)));
    let layout = Layout::new(&source, &spec).unwrap();
    let written = Checkpoint::open(&write(&source, &layout, &place.path().join("out"))).unwrap();
    assert_eq!(written.file_bytes(), layout.bytes());
    assert_eq!(written.parameters(), layout.parameters());
    for site in ends {
        let whole = source.factor(site).unwrap().dense().unwrap();
        let expected = Quantised::nearest(&whole, scheme).unwrap();
        let found = written.factor(site).unwrap();
        assert_eq!(found, Factor::Whole(Store::Quantised(expected)));
    }
}

#[test]
fn an_unfinished_output_goes_on_with_the_same_task_only() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let source = source();
    let layout = Layout::new(&source, &spec()).unwrap();
    let begin = |task: &str| {
        let output = claim(&source, &target, false).unwrap();
        Writer::begin(&source, &layout, output, task)
    };
    let writer = begin("task").unwrap();
    writer.put(0, &[edit(pair(&source), 0.25)]).unwrap();
    let journal = writer.work().join(".journal");
    writer.put_block(1).unwrap(); // makes the step last
    drop(writer);
    assert!(!target.exists());
    // A kill in the middle of a line leaves half of it.
    let mut file = fs::OpenOptions::new().append(true).open(&journal).unwrap();
    file.write_all(b"{\"step\":1,\"err").unwrap();
    let again = begin("task").unwrap();
    assert_eq!(again.finished().clone(), [(0, vec![(SITE, 0.25)])].into());
    assert_eq!(again.first_block(), 1);
    drop(again);
    assert!(matches!(
        begin("another task"),
        Err(Error::OtherWork { .. })
    ));
}

#[test]
fn numbers_too_large_for_half_precision_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let source = source();
    let layout = Layout::new(
        &source,
        &OutputSpec {
            format: Some(compress_core::Format::F16),
            ..spec()
        },
    )
    .unwrap();
    let output = claim(&source, &place.path().join("out"), false).unwrap();
    let writer = Writer::begin(&source, &layout, output, "task").unwrap();
    let shape = source.config().weight_shape(SITE);
    let up = Matrix::from_fn(shape.rows, 3, |_, _| 70_000.0);
    let factor = Factor::low_rank(up, Matrix::zeros(3, shape.cols));
    let refused = writer.put(0, &[edit(factor, 0.0)]).unwrap_err().to_string();
    assert!(
        refused.contains("1.mlp.down_proj.up.weight") && refused.contains("--dtype"),
        "{refused}"
    );
}

#[test]
fn a_finished_model_that_could_not_get_its_name_only_gets_its_name_next_time() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let source = source();
    let layout = Layout::new(&source, &spec()).unwrap();
    let begin = || {
        let output = claim(&source, &target, false).unwrap();
        Writer::begin(&source, &layout, output, "task").unwrap()
    };
    let writer = begin();
    writer.put(0, &[edit(pair(&source), 0.25)]).unwrap();
    writer.write_others().unwrap();
    // Somebody else's folder appears meanwhile.
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious.txt"), "years of work").unwrap();
    let refused = writer.publish(&record(), &card()).map(|_| ());
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("appeared meanwhile"), "{refused}");
    assert!(target.join("precious.txt").exists());
    fs::rename(&target, place.path().join("elsewhere")).unwrap();
    let again = begin();
    assert_eq!(again.finished().len(), 1);
    again.publish(&record(), &card()).map(|_| ()).unwrap();
    assert_eq!(
        Checkpoint::open(&target).unwrap().factor(SITE).unwrap(),
        pair(&source)
    );
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}"); // it, and what was moved away
}

#[test]
fn what_an_exchange_of_names_has_left_is_not_taken_for_the_new_model() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let source = source();
    let layout = Layout::new(&source, &spec()).unwrap();
    let begin = |force: bool| {
        let output = claim(&source, &target, force).unwrap();
        Writer::begin(&source, &layout, output, "task").unwrap()
    };
    let writer = begin(false);
    let work = writer.work().to_owned();
    writer.put(0, &[edit(pair(&source), 0.25)]).unwrap();
    writer.write_others().unwrap();
    // The model is noted as about to be published, and kept from it by something in its place.
    fs::write(&target, "in the way").unwrap();
    assert!(writer.publish(&record(), &card()).is_err());
    fs::remove_file(&target).unwrap();
    // As a kill between the exchange of names and the tidying up leaves it: an older output of the same
    // sizes where the new model was.
    let kept = place.path().join("kept");
    fs::rename(work.join("model"), &target).unwrap();
    copy(&target, &work.join("model"));
    for moved_away in [false, true] {
        if moved_away {
            fs::rename(&target, &kept).unwrap();
            let again = begin(true);
            assert!(again.finished().is_empty());
        } else {
            copy(&work, &place.path().join("left"));
            drop(claim(&source, &target, true).unwrap());
            assert!(!work.exists() && target.exists());
            fs::rename(place.path().join("left"), &work).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

#[test]
fn a_folder_of_that_name_that_no_run_has_made_is_not_removed() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("out");
    let source = source();
    let layout = Layout::new(&source, &spec()).unwrap();
    let work = place.path().join("out.compress-work");
    fs::create_dir(&work).unwrap();
    for name in ["notes.txt", "compression.json", ".journal", ".fingerprint"] {
        fs::write(work.join(name), "mine\n").unwrap();
        for force in [false, true] {
            let output = claim(&source, &target, force).unwrap();
            let refused = Writer::begin(&source, &layout, output, "task").map(|_| ());
            assert!(refused.is_err(), "{name}");
            assert!(work.join(name).exists());
        }
        fs::remove_file(work.join(name)).unwrap();
    }
    let link = place.path().join("elsewhere");
    fs::rename(&work, &link).unwrap();
    std::os::unix::fs::symlink(&link, &work).unwrap();
    let output = claim(&source, &target, true).unwrap();
    assert!(Writer::begin(&source, &layout, output, "task").is_err());
    assert!(link.exists() && work.is_symlink());
}
