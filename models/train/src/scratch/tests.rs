#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, path::Path};

use burn::tensor::Tensor;
use compress_checkpoint::Checkpoint;
use compress_core::{Role, Site};
use compress_evaluate::perplexity;
use compress_models::{Decoder, Device, to_device, to_host};
use compress_numerics::{Matrix, Random};
use compress_tune::{Journal, best};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{
    attention::{Attention, ROLES, Size, Structure},
    mixing::{Matrices, PACE, atoms},
    output,
    run::Run,
    student::Student,
    training::{Lesson, train},
};
use crate::corpus::Corpus;

const SMALL: Size = Size {
    hidden: 24,
    intermediate: 32,
    layers: 6,
    atoms: 2,
    heads: 2,
    vocabulary: 30,
    context: 16,
};

/// A run of 8 steps, two looks, in a folder that has a tokenizer of single letters.
fn run(folder: &Path, attention: Attention) -> Run {
    let letters = ["<unk>", "<s>", "</s>", "Ġ"].map(str::to_owned);
    let letters = letters.into_iter().chain(('a'..='z').map(String::from));
    let vocabulary = letters
        .zip(0..)
        .map(|(letter, id)| (letter, Value::from(id)));
    let special = |id, content| json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocabulary.collect::<Map<_, _>>(), "merges": [] },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    Run {
        attention,
        size: SMALL,
        steps: 8,
        seed: 1,
        interval: 4,
        tokenizer: folder.into(),
        folder: folder.join("run"),
    }
}

/// Forty stories of random words.
fn stories() -> String {
    let mut random = Random(3);
    let mut text = String::new();
    for _ in 0..40 {
        for _ in 0..12 {
            let word = ["the", "fox", "ran", "home", "again"][(random.uniform() * 5.0) as usize];
            write!(text, "{word} ").unwrap();
        }
        text += "<|endoftext|>";
    }
    text
}

/// A student with its matrices, and a decoder of its sizes.
fn student(attention: Attention, size: Size) -> (Student, Matrices, Decoder) {
    let folder = TempDir::new().unwrap();
    run(folder.path(), attention);
    let student = Student::new(attention, size).unwrap();
    let values = student.named(&student.initial(1));
    let dense = folder.path().join("dense");
    output::write_dense(&student, &values, folder.path(), &dense).unwrap();
    let frame = Student::frame(&dense).unwrap();
    (student, values, frame)
}

fn logits(student: &Student, frame: &Decoder, of: &Matrices) -> Vec<f32> {
    let decoder = student.decoder(frame, of).unwrap();
    let hidden = decoder.hidden(&[&[1, 5, 7, 3, 20, 11, 9, 8]]).unwrap();
    to_host(decoder.logits(hidden.squeeze_dim(0))).unwrap()
}

fn matrix(rows: usize, cols: usize, of: impl Fn(usize, usize) -> f32) -> Tensor<2> {
    let numbers = (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j)));
    let numbers = numbers.map(|(i, j)| of(i, j)).collect();
    to_device(numbers, [rows, cols], &Device::flex())
}

fn close(one: &[f32], other: &[f32]) -> bool {
    let pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4)
}

/// Sets embeddings and networks so that c is the identity.
fn identity(of: &mut Matrices, layers: usize) {
    let eye = |scale: f32| move |i, j| if i == j { scale / PACE } else { 0.0 };
    let silu = |x: f32| x / (1.0 + (-x).exp());
    of.insert("coefficients.blocks".into(), matrix(layers, 64, eye(1.0)));
    for role in ROLES {
        let mut set = |layer, rows, scale| {
            let name = format!("coefficients.{role}.{layer}.weight");
            of.insert(name, matrix(rows, 64, eye(scale)));
        };
        set(0, 64, 1.0);
        set(1, 64, 1.0);
        set(2, layers, silu(silu(1.0)).recip());
    }
}

#[test]
fn with_an_atom_for_each_layer_every_sharing_is_dense() {
    let size = Size { atoms: 6, ..SMALL };
    let (dense, weights, frame) = student(Attention::Dense, size);
    let expected = logits(&dense, &frame, &weights);
    for attention in [
        Attention::MasaQkvo,
        Attention::Sequential,
        Attention::Repeated,
    ] {
        let (student, mut own, _) = student(attention, size);
        own.extend(weights.clone());
        for role in ROLES {
            let factors = dense.factors(role, &weights).unwrap();
            let layers = factors.iter().map(|factor| factor.dense().unwrap());
            let stacked = layers.flat_map(Matrix::into_data).collect();
            own.insert(
                atoms(role),
                to_device(stacked, [6 * 24, 24], &Device::flex()),
            );
        }
        if attention == Attention::MasaQkvo {
            assert!(!close(&logits(&student, &frame, &own), &expected));
            identity(&mut own, 6);
        }
        assert!(
            close(&logits(&student, &frame, &own), &expected),
            "{attention}"
        );
    }
}

#[test]
fn neighbours_share_in_sequence_and_every_third_layer_when_repeated() {
    let size = Size::USUAL;
    let atoms = |attention: Attention| {
        let layers = 0..size.layers;
        layers
            .map(|layer| attention.atom(layer, &size))
            .collect::<Option<Vec<_>>>()
    };
    let sequential = atoms(Attention::Sequential).unwrap();
    assert_eq!(sequential, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    let repeated = atoms(Attention::Repeated).unwrap();
    assert_eq!(repeated, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(atoms(Attention::MasaQkvo), None);
    let (student, values, _) = student(Attention::Repeated, SMALL);
    let coefficients = student.coefficients(Role::Key, &values).unwrap();
    let expected = [1.0, 0.0, 0.0, 1.0].repeat(3);
    assert_eq!(to_host(coefficients).unwrap(), expected);
}

#[test]
fn attention_parameters_are_those_of_the_table() {
    let found = Attention::ALL.map(|attention| {
        let student = Student::new(attention, Size::USUAL).unwrap();
        (student.attention_parameters(), student.parameters())
    });
    // 9 layers of 4 × 96²; 27 coefficients per role that is shared; keys and values of one head of 16.
    let attention = [
        331_776,
        165_888 + 81,
        193_536,
        110_592,
        110_592 + 108,
        110_592 + 108,
        110_592 + 108,
    ];
    let rest = 9 * 3 * 96 * 256 + 512 * 96 + 19 * 96;
    assert_eq!(found, attention.map(|own| (own, own + rest)));
}

#[test]
fn what_two_networks_have_in_common_starts_the_same() {
    let (_, dense, _) = student(Attention::Dense, SMALL);
    for attention in Attention::ALL {
        let (student, own, _) = student(attention, SMALL);
        let same = own.iter().filter(|(name, value)| {
            let other = dense
                .get(*name)
                .filter(|other| other.dims() == value.dims());
            other.is_some_and(|other| {
                to_host(other.clone()).unwrap() == to_host((*value).clone()).unwrap()
            })
        });
        let whole = ROLES.into_iter().filter(|role| {
            let narrow = attention == Attention::Grouped && [Role::Key, Role::Value].contains(role);
            student.attention.structure(*role) == Structure::Whole && !narrow
        });
        // Three of the feed-forward layer and two norms per layer, last norm and embedding.
        assert_eq!(same.count(), 6 * (5 + whole.count()) + 2, "{attention}");
    }
}

#[test]
fn gradients_reach_atoms_and_the_network_of_coefficients_and_the_loss_falls() {
    for attention in Attention::ALL {
        let folder = TempDir::new().unwrap();
        let run = Run {
            steps: 40,
            interval: 20,
            ..run(folder.path(), attention)
        };
        let (student, values, frame) = student(attention, SMALL);
        let tokenizer = folder.path().join("tokenizer.json");
        let tokenizer = tokenizers::Tokenizer::from_file(tokenizer).unwrap();
        let corpus = Corpus::by(&tokenizer, "<s>", &stories()).unwrap();
        let lesson = Lesson {
            run: &run,
            student: &student,
            frame: &frame,
            corpus: &corpus,
        };
        let values: Vec<Tensor<2>> = values.into_values().collect();
        let (first, gradients) = lesson.gradients(&values, 0).unwrap();
        for (part, gradient) in student.parts.iter().zip(gradients) {
            let gradient = to_host(gradient).unwrap();
            assert!(
                gradient.iter().any(|x| x.abs() > 0.0),
                "{attention} {}",
                part.name
            );
        }
        fs::create_dir_all(&run.folder).unwrap();
        let mut journal = Journal::open(&folder.path().join("state")).unwrap();
        train(&lesson, &mut journal, 40).unwrap();
        let least = best(&journal.curve).unwrap();
        assert!(least < first - 0.5, "{attention}: {first} to {least}");
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    for attention in [Attention::MasaQkvo, Attention::LowRank] {
        let (whole, killed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        run(whole.path(), attention).carry_out(&stories()).unwrap();
        let killed_run = run(killed.path(), attention);
        // Once before there is any state, once two steps behind the first look.
        for until in [2, 6] {
            assert!(killed_run.train(&stories(), until).unwrap().is_some());
        }
        killed_run.carry_out(&stories()).unwrap();
        for file in [
            "curve.csv",
            "run.json",
            "held_out.txt",
            "model/model.safetensors",
            "model/config.json",
        ] {
            let of = |folder: &TempDir| fs::read(folder.path().join("run").join(file)).unwrap();
            assert!(of(&whole) == of(&killed), "{attention} {file}");
        }
        // Done: nothing is left to do, and nothing is left over, of a kill behind the last rename either.
        fs::create_dir(killed.path().join("run/state")).unwrap();
        assert!(killed_run.train(&stories(), 8).unwrap().is_none());
        let left = fs::read_dir(killed.path().join("run")).unwrap();
        assert_eq!(left.count(), 4);
        let other = Run {
            seed: 2,
            ..killed_run
        };
        let refused = other.carry_out(&stories()).unwrap_err().to_string();
        assert!(
            refused.ends_with("another run is there; give another folder"),
            "{refused}"
        );
    }
}

#[test]
fn what_is_written_has_the_parameters_and_the_loss_of_what_was_trained() {
    for attention in Attention::ALL {
        let folder = TempDir::new().unwrap();
        let run = run(folder.path(), attention);
        run.carry_out(&stories()).unwrap();
        let model = Checkpoint::open(&run.folder.join("model")).unwrap();
        let student = Student::new(attention, SMALL).unwrap();
        assert_eq!(model.parameters(), student.parameters(), "{attention}");
        for site in Site::blocks(SMALL.layers) {
            assert_eq!(model.factor(site).unwrap().form(), student.form(site));
        }
        let decoder = Decoder::load(&model, &Device::flex()).unwrap();
        // As `compress evaluate` cuts the text that lies beside the model.
        let text = fs::read_to_string(run.folder.join("held_out.txt")).unwrap();
        let protocol = compress_evaluate::Protocol {
            context: SMALL.context,
            windows: None,
            bos: false,
            documents: None,
        };
        let windows = protocol
            .cut(&text, &model.tokenizer().unwrap(), Some(1))
            .unwrap();
        let written = perplexity(&decoder, &windows, &|_| ()).unwrap().loss;
        let curve = fs::read_to_string(run.folder.join("curve.csv")).unwrap();
        let trained: f64 = curve
            .trim_end()
            .rsplit(',')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            (written - trained).abs() < 1e-5,
            "{attention}: {written} for {trained}"
        );
    }
}

#[test]
fn figures_are_a_table_in_the_papers_order_and_a_picture() {
    let runs = TempDir::new().unwrap();
    for (attention, seed) in [
        (Attention::MasaQkvo, 1),
        (Attention::Dense, 2),
        (Attention::Dense, 1),
    ] {
        let folder = TempDir::new().unwrap();
        let name = format!("{attention}-{seed}");
        Run {
            seed,
            folder: runs.path().join(name),
            ..run(folder.path(), attention)
        }
        .carry_out(&stories())
        .unwrap();
    }
    let done = super::figures::read_all(runs.path()).unwrap();
    let table = super::figures::table(&done);
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows[0].ends_with("| tokens | seed 1 | seed 2 | mean | spread |"),
        "{table}"
    );
    assert!(
        rows[2].starts_with("| dense | 13824 | 100.0 % |"),
        "{table}"
    );
    assert!(
        rows[3].starts_with("| masa-qkvo | 4656 | 33.7 % |"),
        "{table}"
    );
    let picture = runs.path().join("curves.svg");
    super::figures::show(runs.path(), Some(&picture)).unwrap();
    assert!(fs::read_to_string(picture).unwrap().contains("masa-qkvo"));
    let nothing = super::figures::show(TempDir::new().unwrap().path(), None).unwrap_err();
    assert!(nothing.to_string().ends_with("is done"));
}
