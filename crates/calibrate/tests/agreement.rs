//! Evidence is what its definition says, and the same however it came about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};
use compress_calibrate::{
    Behind, Error, EvidenceStore, Measured, Progress, RefitTarget, Sequential, calibrate, kept,
    shrink, trace,
};
use compress_checkpoint::{Checkpoint, names};
use compress_core::{
    Evidence as _, InputKind, LayerInput, Needs, Role, Site, TokenWeights, Weights as _,
};
use compress_models::{Block, Decoder, Device, DeviceChoice, Store, Weight, rms_norm};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::json;

const NETWORKS: [&str; 4] = ["llama", "mistral_window", "qwen2", "qwen3"];

const ALL: Needs = Needs {
    activations: true,
    attention_weighted: true,
    gradients: true,
    lens: true,
};

struct Silent;

impl Progress for Silent {
    fn start(&self, _: &'static str, _: usize) {}
    fn advance(&self, _: usize) {}
}

fn network(name: &str) -> Checkpoint {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks");
    Checkpoint::open(&folder.join(name)).unwrap()
}

fn windows(vocabulary: usize) -> Vec<Vec<u32>> {
    let token =
        |window: usize, place: usize| ((window * 31 + place * place * 7) % vocabulary) as u32;
    (0..3)
        .map(|window| (0..20).map(|place| token(window, place)).collect())
        .collect()
}

fn measured(model: &Checkpoint) -> (tempfile::TempDir, EvidenceStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = EvidenceStore::open(folder.path(), &json!({})).unwrap();
    gather(model, ALL, (&store, usize::MAX)).unwrap();
    (folder, store)
}

fn contents(store: &EvidenceStore) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(store.folder()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// ‖a − b‖ / ‖b‖
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: f64| x * x;
    let apart: f64 = a.iter().zip(b).map(|(a, b)| norm(a - b)).sum();
    (apart / b.iter().map(|&b| norm(b)).sum::<f64>()).sqrt()
}

#[test]
fn gram_matrices_are_the_sums_of_the_outer_products_of_what_enters() {
    for name in NETWORKS {
        let model = network(name);
        let (_folder, store) = measured(&model);
        let device = Device::flex();
        let decoder = Decoder::load_ends(&model, &device).unwrap();
        let angles = decoder.rotary.angles(0..20, &device);
        let mut states: Vec<Tensor<3>> = windows(model.config().vocabulary)
            .iter()
            .map(|window| decoder.embed(&[window]).unwrap())
            .collect();
        for layer in 0..model.config().layers {
            let block = Block::load(&model, layer, &device).unwrap();
            let passes: Vec<_> = states
                .iter()
                .map(|x| trace(&block, x.clone(), &angles))
                .collect();
            for kind in InputKind::ALL {
                let x: Vec<f32> = passes
                    .iter()
                    .flat_map(|trace| trace.input(kind).into_data().try_into_vec::<f32>().unwrap())
                    .collect();
                let gram = store.activations(LayerInput::new(layer, kind)).unwrap();
                let n = gram.size();
                let mut naive = vec![0.0; n * n];
                for x in x.chunks_exact(n) {
                    for (i, &a) in x.iter().enumerate() {
                        for (j, &b) in x.iter().enumerate() {
                            naive[i * n + j] += f64::from(a) * f64::from(b);
                        }
                    }
                }
                let whole: Vec<f64> = (0..n * n).map(|k| gram.at(k / n, k % n)).collect();
                let off = distance(&whole, &naive);
                assert!(off < 1e-6, "{name}, {layer}.{}: {off:e}", kind.name());
            }
            states = passes.into_iter().map(|trace| trace.next).collect();
        }
    }
}

#[test]
fn the_logit_lens_is_what_head_and_last_norm_make_of_each_block() {
    for name in NETWORKS {
        let model = network(name);
        let (_folder, store) = measured(&model);
        let device = Device::flex();
        let decoder = Decoder::load(&model, &device).unwrap();
        let angles = decoder.rotary.angles(0..20, &device);
        let windows = windows(model.config().vocabulary);
        let (mut sum, mut tokens) = (0.0, 0);
        for window in windows {
            let mut state = decoder.embed(&[&window]).unwrap();
            let lens: Vec<Tensor<2>> = (0..2)
                .map(|layer| {
                    let block = Block::load(&model, layer, &device).unwrap();
                    state = trace(&block, state.clone(), &angles).next;
                    let [_, time, width] = state.dims();
                    let normed = rms_norm(&decoder.norm, state.clone());
                    log_softmax(decoder.logits(normed.reshape([time, width])), 1)
                })
                .collect();
            let (before, after) = (lens[0].clone(), lens[1].clone());
            let terms = after.clone().exp() * (after - before);
            let terms = terms.into_data().try_into_vec::<f32>().unwrap();
            sum += terms.into_iter().map(f64::from).sum::<f64>();
            tokens += window.len();
        }
        let (found, expected) = (store.lens(1).unwrap(), sum / tokens as f64);
        assert!(expected > 1e-3, "{name}: {expected}");
        assert!(
            (found / expected - 1.0).abs() < 1e-4,
            "{name}: {found} {expected}"
        );
    }
}

/// Squared gradients by walking back through the whole network at once, as burn does it.
#[test]
fn fisher_information_is_that_of_automatic_differentiation() {
    for name in NETWORKS {
        let model = network(name);
        let (_folder, store) = measured(&model);
        let device = Device::flex().autodiff();
        let mut decoder = Decoder::load(&model, &device).unwrap();
        let mut sums: BTreeMap<Site, Vec<f64>> = BTreeMap::new();
        for window in windows(model.config().vocabulary) {
            let hidden = decoder.hidden(&[&window[..window.len() - 1]]).unwrap();
            let [_, time, width] = hidden.dims();
            let logits = decoder.logits(hidden.reshape([time, width]));
            let targets: Vec<i32> = window[1..].iter().map(|&token| token as i32).collect();
            let targets: Tensor<2, Int> =
                Tensor::from_data(TensorData::new(targets, [time, 1]), &device);
            let loss = log_softmax(logits, 1).gather(1, targets).mean().neg();
            let gradients = loss.backward();
            for site in Site::blocks(model.config().layers) {
                let (Some(layer), Some(role)) = (site.layer(), site.role()) else {
                    panic!("{site} is in no block");
                };
                let linear = decoder.blocks[layer].linear_mut(role);
                let Weight::Whole(Store::Float(weight)) = &linear.weight else {
                    panic!("{site} is not whole");
                };
                let gradient = weight.val().grad(&gradients).unwrap();
                let inputs = gradient.dims()[1];
                let numbers = gradient.into_data().try_into_vec::<f32>().unwrap();
                let sum = sums.entry(site).or_insert_with(|| vec![0.0; inputs]);
                for row in numbers.chunks_exact(inputs) {
                    for (sum, &d) in sum.iter_mut().zip(row) {
                        *sum += f64::from(d).powi(2);
                    }
                }
            }
        }
        for (site, sum) in sums {
            let off = distance(&store.input_fisher(site).unwrap(), &sum);
            assert!(off < 1e-3, "{name}, {site}: {off:e}");
        }
    }
}

#[test]
fn evidence_that_is_partly_there_is_completed_to_the_same_bytes() {
    let model = network("llama");
    let (folder, store) = measured(&model);
    let whole = contents(&store);
    for lost in [
        "1.attention.activations",
        "0.key.gradients",
        "1.down.gradients",
        "1.lens",
    ] {
        fs::remove_file(store.folder().join(format!("{lost}.safetensors"))).unwrap();
        gather(&model, ALL, (&store, usize::MAX)).unwrap();
        assert_eq!(contents(&store), whole, "without {lost}");
    }
    drop(folder);
}

#[test]
fn gradients_asked_for_later_are_those_asked_for_at_once() {
    let model = network("qwen3");
    let (_folder, store) = measured(&model);
    let whole = contents(&store);
    let other = tempfile::tempdir().unwrap();
    let later = EvidenceStore::open(other.path(), &json!({})).unwrap();
    let first = Needs {
        activations: true,
        attention_weighted: false,
        gradients: false,
        lens: false,
    };
    gather(&model, first, (&later, usize::MAX)).unwrap();
    gather(&model, ALL, (&later, usize::MAX)).unwrap();
    let names =
        |contents: BTreeMap<PathBuf, Vec<u8>>| -> Vec<_> { contents.into_values().collect() };
    assert_eq!(names(contents(&later)), names(whole));
}

#[test]
fn little_memory_takes_more_rounds_and_gives_the_same_bytes() {
    let model = network("qwen3");
    let (_folder, store) = measured(&model);
    let other = tempfile::tempdir().unwrap();
    let little = EvidenceStore::open(other.path(), &json!({})).unwrap();
    gather(&model, ALL, (&little, 0)).unwrap();
    let contents: [Vec<_>; 2] =
        [store, little].map(|store| contents(&store).into_values().collect());
    assert_eq!(contents[0], contents[1]);
}

#[test]
fn windows_that_are_no_windows_are_refused() {
    let model = network("llama");
    let folder = tempfile::tempdir().unwrap();
    let store = EvidenceStore::open(folder.path(), &json!({})).unwrap();
    for windows in [vec![], vec![vec![1]], vec![vec![1, 2, 3], vec![1, 2]]] {
        let outcome = calibrate(
            &model,
            &windows,
            ALL,
            (&store, usize::MAX),
            &Device::flex(),
            &Silent,
        );
        assert!(matches!(outcome, Err(Error::Windows { .. })), "{windows:?}");
    }
}

#[test]
fn damaged_evidence_is_named() {
    let model = network("llama");
    let (_folder, store) = measured(&model);
    let path = store.folder().join("0.query.gradients.safetensors");
    fs::write(&path, b"not a safetensors file").unwrap();
    let error = store
        .output_gradients(Site::new(0, Role::Query))
        .unwrap_err();
    assert!(error.to_string().contains("0.query.gradients"), "{error}");
}

#[test]
fn a_model_that_overflows_is_named_by_block_inlet_and_window() {
    let folder = tempfile::tempdir().unwrap();
    let source = network("llama");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(source.path().join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let large = |name: &str| {
        name == names::weight(Site::new(1, Role::Up))
            || name == names::weight(Site::new(1, Role::Gate))
    };
    let changed: Vec<(String, TensorView<'_>)> = tensors.tensors();
    let grown: Vec<Vec<u8>> = changed
        .iter()
        .map(|(name, tensor)| {
            let scale = if large(name) { 1e25 } else { 1.0 };
            let numbers = tensor
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            numbers.flat_map(|x| (x * scale).to_le_bytes()).collect()
        })
        .collect();
    let views = changed.iter().zip(&grown).map(|((name, tensor), bytes)| {
        (
            name,
            TensorView::new(tensor.dtype(), tensor.shape().to_vec(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let model = Checkpoint::open(folder.path()).unwrap();
    let store = EvidenceStore::open(folder.path(), &json!({})).unwrap();
    // The logit lens would name the block behind which all is infinite, and not where that began.
    let needs = Needs { lens: false, ..ALL };
    let outcome = gather(&model, needs, (&store, usize::MAX));
    let Err(Error::Activation { input, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(input, LayerInput::new(1, InputKind::Down));
}

/// Measures the test's text on the CPU.
fn gather(model: &Checkpoint, needs: Needs, store: (&EvidenceStore, usize)) -> Result<(), Error> {
    let windows = windows(model.config().vocabulary);
    calibrate(model, &windows, needs, store, &Device::flex(), &Silent)
}

#[test]
#[ignore = "needs an adapter, a software driver at least"]
fn a_gpu_measures_what_the_cpu_does() {
    let (device, _) = DeviceChoice::Wgpu.open().unwrap();
    for network in ["llama", "qwen3", "mistral_window"] {
        let model = self::network(network);
        let (_folder, on_cpu) = measured(&model);
        let folder = tempfile::tempdir().unwrap();
        let on_gpu = EvidenceStore::open(folder.path(), &json!({})).unwrap();
        let windows = windows(model.config().vocabulary);
        let room = usize::MAX;
        calibrate(&model, &windows, ALL, (&on_gpu, room), &device, &Silent).unwrap();
        for layer in 0..model.config().layers {
            let numbers = |store: &EvidenceStore| {
                let inputs = InputKind::ALL.map(|kind| LayerInput::new(layer, kind));
                let inputs = inputs.map(|input| store.activations(input).unwrap().lower().to_vec());
                let sites = Role::ALL.map(|role| Site::new(layer, role));
                let gradients =
                    sites.map(|site| store.output_gradients(site).unwrap().lower().to_vec());
                let fisher = sites.map(|site| store.input_fisher(site).unwrap());
                let weighted = store.attention_weighted(layer).unwrap().lower().to_vec();
                let all = inputs.into_iter().chain(gradients).chain(fisher);
                all.chain([weighted]).collect::<Vec<Vec<f64>>>()
            };
            for (i, (cpu, gpu)) in numbers(&on_cpu).iter().zip(numbers(&on_gpu)).enumerate() {
                let most = cpu.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
                for (cpu, gpu) in cpu.iter().zip(gpu) {
                    let close = (cpu - gpu).abs() <= 1e-4 * most;
                    assert!(
                        close,
                        "{network}, block {layer}, {i}: {gpu} for {cpu} of {most}"
                    );
                }
            }
        }
    }
}

/// Takes a text through some blocks of a model behind itself, and gives all that is measured there.
fn seen(
    model: &Checkpoint,
    (refit, attention_weighted): (Option<RefitTarget>, bool),
    folder: &Path,
    blocks: std::ops::Range<usize>,
) -> Vec<Measured> {
    let windows = windows(model.config().vocabulary);
    let behind = refit.map(|refit| Behind {
        written: model,
        refit,
    });
    let start = (folder, blocks.start);
    let passes = Sequential::begin(
        model,
        &windows,
        (behind, attention_weighted),
        start,
        &Device::flex(),
        &Silent,
    )
    .unwrap();
    let mut seen = Vec::new();
    for layer in blocks {
        let keep = |measured| {
            seen.push(measured);
            Ok::<_, Error>(())
        };
        passes.through(layer, keep).unwrap();
        passes.forget(layer).unwrap();
    }
    seen
}

#[test]
fn behind_nothing_that_is_cut_the_target_is_the_weight_itself() {
    for name in NETWORKS.into_iter().chain(["llama_biased"]) {
        let model = network(name);
        let layers = 0..model.config().layers;
        for refit in [None, Some(RefitTarget::Inputs), Some(RefitTarget::Original)] {
            for tokens in [TokenWeights::Uniform, TokenWeights::Attention] {
                let folder = tempfile::tempdir().unwrap();
                let what = (refit, tokens == TokenWeights::Attention);
                for mut measured in seen(&model, what, folder.path(), layers.clone()) {
                    let LayerInput { layer, kind } = measured.input;
                    let sites = kind.readers().iter().map(|role| Site::new(layer, *role));
                    let weights = sites.map(|site| (site, tokens, model.load(site).unwrap()));
                    for (site, target) in measured.targets(weights.collect()).unwrap() {
                        let weight = model.load(site).unwrap();
                        let apart = target.squared_distance(&weight) / weight.squared_norm();
                        assert!(apart < 1e-9, "{name} {site} {refit:?} {tokens:?}: {apart}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_measured_on_the_way_is_what_a_store_keeps() {
    for name in NETWORKS {
        let model = network(name);
        let (_folder, store) = measured(&model);
        let folder = tempfile::tempdir().unwrap();
        for measured in seen(
            &model,
            (None, true),
            folder.path(),
            0..model.config().layers,
        ) {
            let input = measured.input;
            let kept = store.activations(input).unwrap();
            let apart = distance(kept.lower(), measured.activations().lower());
            assert!(apart < 1e-7, "{name} {input}: {apart}");
            if let Some(attention_weighted) = measured.attention_weighted() {
                let kept = store.attention_weighted(input.layer).unwrap();
                let apart = distance(kept.lower(), attention_weighted.lower());
                assert!(apart < 1e-7, "{name} {input}: {apart}");
            }
        }
    }
}

#[test]
fn a_walk_that_goes_on_from_a_block_sees_what_the_whole_walk_sees() {
    let model = network("qwen3");
    let layers = model.config().layers;
    for refit in [None, Some(RefitTarget::Original)] {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let all = seen(&model, (refit, true), whole.path(), 0..layers);
        let mut again = seen(&model, (refit, true), parts.path(), 0..1);
        again.extend(seen(&model, (refit, true), parts.path(), 1..layers));
        assert_eq!(all.len(), again.len());
        for (all, again) in all.iter().zip(&again) {
            assert_eq!(all.activations().lower(), again.activations().lower());
            let attention_weighted =
                |measured: &Measured| measured.attention_weighted().map(|h| h.lower().to_vec());
            assert_eq!(attention_weighted(all), attention_weighted(again));
        }
        // Of all the files only what is behind the last block is left, and what is within one.
        let left = fs::read_dir(parts.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let numbered =
            left.filter(|name| name.to_str().unwrap().starts_with(|c: char| c.is_numeric()));
        assert_eq!(numbered.count(), if refit.is_some() { 2 } else { 1 });
    }
}

#[test]
fn a_store_that_is_used_is_not_removed_and_the_oldest_unused_goes_first() {
    let root = tempfile::tempdir().unwrap();
    let open = |name: &str| EvidenceStore::open(root.path(), &json!({ "model": name })).unwrap();
    let (first, second, third) = (open("first"), open("second"), open("third"));
    let names = [&first, &second, &third].map(|store| store.folder().to_owned());
    for name in &names {
        fs::write(name.join("evidence"), [0; 1000]).unwrap();
    }
    let age = |name: &Path, hours: u64| {
        let file = fs::File::options()
            .write(true)
            .open(name.join(".use"))
            .unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3600 * hours);
        file.set_modified(then).unwrap();
    };
    age(&names[0], 3);
    age(&names[1], 2);
    age(&names[2], 1);
    drop((second, third));
    // All are too many; the oldest is in use, so the next goes.
    let gone = shrink(root.path(), 2500).unwrap();
    assert!((1000..1200).contains(&gone), "{gone}");
    let left: Vec<_> = kept(root.path())
        .unwrap()
        .into_iter()
        .map(|store| store.folder)
        .collect();
    assert_eq!(left, [names[2].clone(), names[0].clone()]);
    first.remove().unwrap();
    assert_eq!(kept(root.path()).unwrap().len(), 1);
    // What another program has put there is not ours to count or remove.
    fs::create_dir(root.path().join("precious")).unwrap();
    shrink(root.path(), 0).unwrap();
    assert!(root.path().join("precious").exists());
    assert!(kept(root.path()).unwrap().is_empty());
}

#[test]
fn many_runs_share_one_store() {
    let root = tempfile::tempdir().unwrap();
    let model = network("llama");
    let one = |_: usize| {
        let store = EvidenceStore::open(root.path(), &json!({})).unwrap();
        gather(&model, ALL, (&store, usize::MAX)).unwrap();
        for site in Site::blocks(model.config().layers) {
            store.remember_spectrum(site, "plain", &[2.0, 1.0]).unwrap();
            assert_eq!(store.spectrum(site, "plain").unwrap().unwrap(), [2.0, 1.0]);
        }
        store
            .activations(LayerInput::new(0, InputKind::Down))
            .unwrap();
    };
    std::thread::scope(|scope| {
        for i in 0..8 {
            scope.spawn(move || one(i));
        }
    });
    let store = EvidenceStore::open(root.path(), &json!({})).unwrap();
    let names = contents(&store).into_keys();
    let parts: Vec<_> = names
        .filter(|name| name.extension().is_some_and(|e| e == "part"))
        .collect();
    assert!(parts.is_empty(), "{parts:?}");
}

#[test]
fn a_store_is_whole_for_whoever_is_in_it_while_others_remove_it() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path();
    let one = move |thread: usize| {
        for _ in 0..100 {
            let store = EvidenceStore::open(place, &json!({})).unwrap();
            let path = store.folder().join(thread.to_string());
            fs::write(&path, "here").unwrap();
            std::thread::yield_now();
            assert_eq!(fs::read(&path).unwrap(), b"here");
            store.remove().unwrap();
            shrink(place, 0).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || one(thread));
        }
    });
    shrink(root.path(), 0).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
