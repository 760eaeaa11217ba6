//! Weights that share matrix atoms, from the command line to files and back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with test programs that use the rest")]
mod common;

use std::{fs, path::Path};

use burn::{backend::Flex, tensor::Distribution};
use common::{
    compress, edit_tensors, files, folder, goes_on_after_kills, json, success, tensors, text,
};
use compress_checkpoint::Checkpoint;
use compress_core::Role;
use compress_models::{Decoder, Device, Mixtures, Store, Tensor, Weight};
use serde_json::Value;

/// Two atoms for all layers of a role, and residuals, from the weights alone.
const PLAIN: [&str; 6] = ["--atoms", "2", "--residual", "0.2", "--metric", "plain"];

/// Runs `masa` on the shipped model, and reports.
fn masa(output: &Path, options: &[&str]) -> Value {
    let words = ["run", "masa", "--json", "-q", "-o", text(output)];
    let told = success(&compress(&[&words[..], options].concat()));
    serde_json::from_str(&told).unwrap()
}

fn perplexity(report: &Value) -> f64 {
    report["after"]["perplexity"].as_f64().unwrap()
}

#[test]
fn as_many_atoms_as_layers_give_the_model_back() {
    let place = folder();
    let all = ["--atoms", "6", "--residual", "0", "--metric", "plain"];
    let report = masa(&place.path().join("out"), &all);
    let before = report["before"]["perplexity"].as_f64().unwrap();
    // The shipped model is in bf16, so that atoms and coefficients are rounded.
    assert!(
        (perplexity(&report) / before - 1.0).abs() < 1e-3,
        "{report}"
    );
}

#[test]
fn a_mixture_is_the_same_model_as_its_weights_multiplied_out() {
    let place = folder();
    let of = |name: &str, more: &[&str]| {
        let output = place.path().join(name);
        let options = [&PLAIN[..], &["--dtype", "f32"], more].concat();
        (perplexity(&masa(&output, &options)), output)
    };
    let (shared, output) = of("shared", &[]);
    let (dense, _) = of("dense", &["--dense"]);
    assert!((shared / dense - 1.0).abs() < 1e-5, "{shared} {dense}");
    // Atoms are stored once, and every byte of the file is accounted for.
    let model = Checkpoint::open(&output).unwrap();
    let names = tensors(&output);
    let atoms = names
        .keys()
        .filter(|name| name.starts_with("model.dictionaries."));
    assert_eq!(atoms.count(), 4);
    let numbers: usize = names
        .values()
        .map(|(shape, _)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(model.parameters(), numbers);
    let header = model.file_bytes() - 4 * numbers;
    assert!(header < 20_000, "{header}");
}

#[test]
fn atoms_that_are_in_memory_once_give_the_figures_and_texts_of_mixed_matrices() {
    let place = folder();
    for (name, more) in [("floats", &[][..]), ("rounded", &["--factor-bits", "8"])] {
        let output = place.path().join(name);
        masa(&output, &[&PLAIN[..], &["--no-evaluate"], more].concat());
        let evaluated = |more: &[&str]| {
            let words = ["evaluate", text(&output), "--windows", "4"];
            json(&[&words[..], more].concat())["perplexity"].clone()
        };
        let near = |mixed: &Value, shared: &Value| {
            let [mixed, shared] = [mixed, shared].map(|it| it.as_f64().unwrap());
            assert!(
                (shared / mixed - 1.0).abs() < 1e-5,
                "{name}: {shared} {mixed}"
            );
        };
        near(&evaluated(&[]), &evaluated(&["--share-memory"]));
        let split = ["--split", "100"];
        let shared = evaluated(&["--split", "100", "--share-memory"]);
        near(&evaluated(&split), &shared);
        let said = |more: &[&str]| {
            let words = ["generate", text(&output), "-p", "Once", "-n", "60"];
            json(&[&words[..], more].concat())["text"].clone()
        };
        assert_eq!(said(&[]), said(&["--share-memory"]), "{name}");
    }
}

#[test]
fn products_with_atoms_are_those_with_the_mixed_matrix_for_any_number_of_tokens() {
    let place = folder();
    for (count, more) in [("1", &[][..]), ("3", &[]), ("2", &["--factor-bits", "8"])] {
        let output = place.path().join(count);
        let how = ["--atoms", count, "--residual", "0.2", "--metric", "plain"];
        masa(&output, &[&how[..], &["--no-evaluate"], more].concat());
        let checkpoint = Checkpoint::open(&output).unwrap();
        // On the CPU by kernels of its own, under autodiff by the operations that a GPU has as well.
        for device in [Device::flex(), Device::flex().autodiff()] {
            let load = |mixtures| Decoder::load_fixed(&checkpoint, mixtures, &device).unwrap();
            let [mixed, shared] = [Mixtures::MultipliedOut, Mixtures::Shared].map(load);
            for (mixed, shared) in mixed.blocks.iter().zip(&shared.blocks) {
                for role in [Role::Query, Role::Key, Role::Value, Role::Output] {
                    let [mixed, shared] = [mixed, shared].map(|block| &block.linear(role).weight);
                    assert!(matches!(mixed, Weight::Whole(_)));
                    assert!(matches!(shared, Weight::Shared(_)));
                    for tokens in [1, 2, 3, 9] {
                        let random = |width| {
                            let normal = Distribution::Normal(0.0, 1.0);
                            Tensor::<2>::random([tokens, width], normal, &device)
                        };
                        let (x, g) = (random(mixed.shape().cols), random(mixed.shape().rows));
                        same(mixed.forward(x.clone()), shared.forward(x));
                        same(mixed.backward(g.clone()), shared.backward(g));
                    }
                    let rows = |weight: &Weight| weight.rows(&[5, 0], &device).unwrap();
                    same(rows(mixed), rows(shared));
                }
            }
        }
    }
}

/// Fails where matrices differ by more than sums in another order do.
fn same(one: Tensor<2>, other: Tensor<2>) {
    let square = |x: Tensor<2>| (x.clone() * x).sum().into_scalar::<f64>();
    let (length, apart) = (square(one.clone()), square(one - other));
    assert!(
        length > 0.0 && apart < 1e-10 * length,
        "{apart} of {length}"
    );
}

#[test]
fn all_layers_of_a_group_read_one_copy_of_its_atoms() {
    let place = folder();
    let output = place.path().join("out");
    masa(
        &output,
        &[&PLAIN[..], &["--no-evaluate", "--groups", "2"]].concat(),
    );
    let checkpoint = Checkpoint::open(&output).unwrap();
    let shared = Decoder::load_fixed(&checkpoint, Mixtures::Shared, &Device::flex()).unwrap();
    let place = |layer: usize| {
        let Weight::Shared(mixture) = &shared.blocks[layer].linear(Role::Key).weight else {
            panic!("layer {layer} is no mixture");
        };
        let Store::Float(atoms) = &mixture.atoms else {
            panic!("atoms are no floats");
        };
        let atoms = atoms.val().try_into_primitive::<Flex>().unwrap();
        atoms.storage::<f32>().as_ptr()
    };
    let places: Vec<_> = (0..shared.blocks.len()).map(place).collect();
    let half = places.len() / 2;
    let (first, second) = places.split_at(half);
    assert!(first.iter().all(|it| *it == first[0]), "{places:?}");
    assert!(second.iter().all(|it| *it == second[0]), "{places:?}");
    assert!(first[0] != second[0]);
}

#[test]
fn rounded_atoms_cost_little() {
    let place = folder();
    let options = |more: &[&'static str]| [&PLAIN[..], more].concat();
    let floats = masa(&place.path().join("floats"), &options(&[]));
    let rounded = masa(
        &place.path().join("rounded"),
        &options(&["--factor-bits", "8"]),
    );
    assert!(rounded["bytes"].as_u64() < floats["bytes"].as_u64());
    let ratio = perplexity(&rounded) / perplexity(&floats);
    assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
}

#[test]
fn refit_makes_good_for_what_sharing_loses() {
    let place = folder();
    let options = |more: &[&'static str]| {
        let common = [
            "--atoms",
            "2",
            "--residual",
            "0.2",
            "--metric",
            "activation",
        ];
        [
            &common[..],
            &["--samples", "16", "--calibrate-ctx", "128"],
            more,
        ]
        .concat()
    };
    let one_shot = masa(&place.path().join("one-shot"), &options(&["--one-shot"]));
    let refit = masa(&place.path().join("refit"), &options(&[]));
    assert!(
        perplexity(&refit) < perplexity(&one_shot),
        "{refit} {one_shot}"
    );
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bytes() {
    let place = folder();
    let output = place.path().join("out");
    let words = ["run", "masa", "--no-evaluate", "-q", "-o", text(&output)];
    let some = ["--atoms", "2", "--samples", "8", "--calibrate-ctx", "64"];
    for order in [&["--one-shot"][..], &["--refit", "--factor-bits", "8"]] {
        let arguments = [&words[..], &some, order].concat();
        goes_on_after_kills(&arguments, &output, &[], 5);
    }
}

#[test]
fn what_is_shared_already_is_left_alone_by_other_methods() {
    let place = folder();
    let (shared, cut) = (place.path().join("shared"), place.path().join("cut"));
    masa(&shared, &[&PLAIN[..], &["--no-evaluate"]].concat());
    let words = [
        "run",
        "svd",
        text(&shared),
        "--keep",
        "0.9",
        "-o",
        text(&cut),
    ];
    success(&compress(&[&words[..], &["--no-evaluate", "-q"]].concat()));
    let (before, after) = (tensors(&shared), tensors(&cut));
    let is_shared = |name: &&String| name.contains("dictionaries") || name.contains("self_attn");
    let kept = before.keys().filter(is_shared);
    assert!(kept.clone().count() > 20);
    for name in kept {
        assert_eq!(before[name], after[name], "{name}");
    }
    assert!(after.contains_key("model.layers.0.mlp.up_proj.down.weight"));
}

/// A training of 12 steps.
const SHORT: &[&str] = &[
    "--steps",
    "12",
    "--every",
    "4",
    "--batch",
    "4",
    "--train-ctx",
    "64",
];

#[test]
fn tuning_trains_what_atoms_leave_and_nothing_that_is_shared() {
    let place = folder();
    let (shared, tuned) = (place.path().join("shared"), place.path().join("tuned"));
    masa(
        &shared,
        &[&PLAIN[..], &["--no-evaluate", "--dtype", "f32"]].concat(),
    );
    let corpus = "../../models/tiny/calibration.txt";
    for objective in ["language", "distillation"] {
        let words = [
            "tune",
            text(&shared),
            "-o",
            text(&tuned),
            "--corpus",
            corpus,
            "--force",
        ];
        let how = [
            "--original",
            "../../models/tiny",
            "--objective",
            objective,
            "--json",
            "-q",
        ];
        let told = success(&compress(&[&words[..], &how, SHORT].concat()));
        let report: Value = serde_json::from_str(&told).unwrap();
        let before = report["before"]["perplexity"].as_f64().unwrap();
        assert!(perplexity(&report) < before, "{objective}: {report}");
        let (before, after) = (tensors(&shared), tensors(&tuned));
        assert!(before.keys().eq(after.keys()));
        for (name, numbers) in &before {
            let residual =
                name.contains("self_attn") && (name.contains(".up.") || name.contains(".down."));
            assert_eq!(*numbers != after[name], residual, "{objective}: {name}");
        }
    }
}

#[test]
fn tuning_trains_atoms_too_and_the_file_has_them_once() {
    let place = folder();
    let (shared, tuned) = (place.path().join("shared"), place.path().join("tuned"));
    masa(
        &shared,
        &[&PLAIN[..], &["--no-evaluate", "--dtype", "f32"]].concat(),
    );
    let corpus = "../../models/tiny/calibration.txt";
    let tune = |train: &str| {
        let words = ["tune", text(&shared), "--corpus", corpus, "--train", train];
        let ends = ["-o", text(&tuned), "--force"];
        json(&[&words[..], SHORT, &ends].concat())["held_out_loss"].clone()
    };
    let residuals = tune("lrc").as_f64().unwrap();
    let both = tune("lrc,atoms").as_f64().unwrap();
    assert!(both < residuals, "{both} {residuals}");
    let (before, after) = (tensors(&shared), tensors(&tuned));
    assert!(before.keys().eq(after.keys()));
    for (name, numbers) in &before {
        let own = name.contains("self_attn") && !name.contains("norm");
        let trained = own || name.starts_with("model.dictionaries.");
        assert_eq!(*numbers != after[name], trained, "{name}");
    }
}

#[test]
fn mixtures_that_do_not_fit_their_atoms_are_refused_by_name() {
    let place = folder();
    let whole = place.path().join("whole");
    let options = [&PLAIN[..], &["--no-evaluate", "--dtype", "f32"]].concat();
    masa(&whole, &options);
    let damaged = |damage: &dyn Fn(&mut common::Tensors)| {
        let copy = place.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for (name, contents) in files(&whole) {
            fs::write(copy.join(name), contents).unwrap();
        }
        edit_tensors(&copy, damage);
        Checkpoint::open(&copy).err().unwrap().to_string()
    };
    let atoms = "model.dictionaries.q_proj_0.weight";
    let coefficients = "model.layers.3.self_attn.q_proj.coefficients.weight";
    let missing = damaged(&|tensors| drop(tensors.remove(atoms)));
    assert!(
        missing.contains("none are there for its layer"),
        "{missing}"
    );
    let fewer =
        damaged(&|tensors| drop(tensors.insert(coefficients.into(), (vec![1, 1], vec![1.0]))));
    assert!(fewer.contains(atoms), "{fewer}");
    let flat =
        damaged(&|tensors| drop(tensors.insert(coefficients.into(), (vec![2], vec![1.0; 2]))));
    assert!(flat.contains(coefficients), "{flat}");
    let extra = damaged(&|tensors| {
        let stray = "model.dictionaries.q_proj_1.bias".to_owned();
        tensors.insert(stray, (vec![2], vec![1.0; 2]));
    });
    assert!(extra.contains("q_proj_1.bias"), "{extra}");
}

#[test]
fn mixtures_of_other_atoms_than_the_config_says_are_refused() {
    let place = folder();
    let whole = place.path().join("whole");
    masa(&whole, &[&PLAIN[..], &["--no-evaluate"]].concat());
    common::edit_config(&whole, |config| {
        let mixture = &mut config["mixtures"]["model.layers.3.self_attn.q_proj"];
        mixture["dictionary"] = "q_proj_2".into();
    });
    let refused = Checkpoint::open(&whole).err().unwrap().to_string();
    assert!(refused.contains("`q_proj_2`"), "{refused}");
}

#[test]
fn atoms_are_not_put_among_the_layers_of_others() {
    let place = folder();
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let some = ["--roles", "q", "--no-evaluate"];
    masa(&first, &[&PLAIN[..], &some, &["--skip", "1-2"]].concat());
    let run = |roles: &str| {
        let words = [
            "run",
            "masa",
            text(&first),
            "-o",
            text(&second),
            "--roles",
            roles,
            "-q",
        ];
        compress(&[&words[..], &PLAIN, &["--no-evaluate"]].concat())
    };
    // Layers 1 and 2 are still whole, but a file has no way to tell their atoms from those of layer 0 for layer 3.
    let refused = run("q");
    assert_eq!(refused.status.code(), Some(2));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(
        stderr.contains("query: the model has atoms of this role already"),
        "{stderr}"
    );
    assert!(!second.exists());
    success(&run("v"));
    assert_eq!(
        Checkpoint::open(&second)
            .unwrap()
            .forms()
            .values()
            .filter(|form| form.is_factored())
            .count(),
        10
    );
}

#[test]
fn measurements_that_stay_do_not_mix_two_fits() {
    let place = folder();
    let evidence = place.path().join("evidence");
    let plan = |fit: &str, more: &[&str]| {
        let words = [
            "plan",
            "masa",
            "--atoms",
            "2",
            "--keep",
            "0.6",
            "--coefficients",
            fit,
        ];
        let text = ["--samples", "8", "--calibrate-ctx", "64", "-q"];
        success(&compress(&[&words[..], &text, more].concat()))
    };
    let kept = ["--evidence", text(&evidence)];
    let plain = plan("plain", &kept);
    assert_ne!(plan("norm", &kept), plain);
    assert_eq!(plan("plain", &kept), plain);
}

#[test]
fn options_that_mean_nothing_are_refused_and_large_ones_end() {
    let refused = |options: &[&str], words: &str| {
        let run = compress(&[&["plan", "masa", "-q"][..], options].concat());
        assert_eq!(run.status.code(), Some(2), "{options:?}");
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(stderr.contains(words), "{stderr}");
    };
    let auto = ["--atoms", "auto", "--residual", "0.5", "--metric", "plain"];
    refused(&auto, "--residual goes with a number of --atoms");
    let none = ["--only", "gate", "--metric", "plain"];
    refused(&none, "none of the chosen weights has one of the --roles");
    let plan = |options: &[&str]| {
        success(&compress(
            &[&["plan", "masa", "-q", "--metric", "plain"][..], options].concat(),
        ))
    };
    plan(&["--atoms", "99999999999999", "--keep", "0.2"]);
    let once = plan(&["--roles", "q", "--atoms", "2", "--residual", "0.1"]);
    assert_eq!(
        plan(&["--roles", "q,query,q", "--atoms", "2", "--residual", "0.1"]),
        once
    );
}

#[test]
fn a_plan_without_atoms_for_its_mixtures_is_refused() {
    let place = folder();
    let file = place.path().join("plan.json");
    let told = success(&compress(&[&["plan", "masa", "-q"][..], &PLAIN].concat()));
    let mut plan: Value = serde_json::from_str(&told).unwrap();
    let run = |plan: &Value| {
        fs::write(&file, plan.to_string()).unwrap();
        let output = place.path().join("out");
        let words = ["run", "masa", "--plan", text(&file), "--metric", "plain"];
        compress(
            &[
                &words[..],
                &["--no-evaluate", "--force", "-q", "-o", text(&output)],
            ]
            .concat(),
        )
    };
    success(&run(&plan));
    let mut whole = plan.clone();
    let steps = plan["steps"].as_array_mut().unwrap();
    steps.retain(|step| step["step"].get("atoms").is_none());
    let refused = |plan: &Value| {
        let refused = run(plan);
        assert_eq!(refused.status.code(), Some(2));
        String::from_utf8(refused.stderr).unwrap()
    };
    let stderr = refused(&plan);
    assert!(
        stderr.contains("no step of the plan makes the atoms"),
        "{stderr}"
    );
    // Nor are atoms made that nothing is mixed of.
    let steps = whole["steps"].as_array_mut().unwrap();
    steps.retain(|step| step["step"].get("atoms").is_some());
    let stderr = refused(&whole);
    assert!(
        stderr.contains("no weight is to be a mixture of them"),
        "{stderr}"
    );
}
