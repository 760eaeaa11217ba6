//! Gradients are what autodiff and finite differences say; training learns, and goes on where it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;

use burn::{
    module::Param,
    nn::RmsNorm,
    tensor::{Device, Gradients, Tensor},
};
use compress_calibrate::Progress;
use compress_core::{Factor, Role, Site, Weights as _};
use compress_models::{Decoder, Store, Weight};
use compress_svd::truncate;
use compress_tune::{
    Diverged, Error, Journal, Lesson, Trained, TrainingOptions, distil, loss_and_gradients, set,
    tensors, train,
};

mod common;

use common::{Silent, checkpoint, lesson, loss, options, windows};

const NETWORKS: [&str; 4] = ["llama", "mistral_window", "qwen2", "qwen3"];

const EVERYTHING: Trained = Trained {
    lrc: true,
    factors: true,
    norms: true,
    atoms: true,
};

/// A network of which some weights are cut to rank 3.
fn cut(name: &str, device: &Device) -> Decoder {
    let checkpoint = checkpoint(name);
    let mut model = Decoder::load(&checkpoint, device).unwrap();
    for (layer, block) in model.blocks.iter_mut().enumerate() {
        for role in [Role::Query, Role::Value, Role::Output, Role::Up, Role::Down] {
            let weight = checkpoint.load(Site::new(layer, role)).unwrap();
            let factor = Factor::LowRank(truncate(&weight, 3).unwrap().pair());
            block.linear_mut(role).replace(factor, device).unwrap();
        }
    }
    model
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

/// The gradients that burn finds, in the order in which ours come: those of a block's weights, then those
/// of its norms, and the last norm's after all blocks.
fn by_autodiff(model: &Decoder, gradients: &Gradients) -> Vec<Vec<f32>> {
    let of_matrix = |x: &Param<Tensor<2>>| numbers(x.val().grad(gradients).unwrap());
    let of_norm = |norm: &RmsNorm| numbers(norm.gamma.val().grad(gradients).unwrap());
    let mut all = Vec::new();
    for block in &model.blocks {
        for role in Role::ALL {
            match &block.linear(role).weight {
                weight @ (Weight::Whole(_) | Weight::LowRank(_)) => {
                    let matrices = weight.stores().into_iter().filter_map(Store::float);
                    all.extend(matrices.map(of_matrix));
                }
                Weight::Sum(_) | Weight::Shared(_) => {}
            }
        }
        all.extend([&block.attention_norm, &block.feed_forward_norm].map(of_norm));
        let heads = [&block.attention.query_norm, &block.attention.key_norm];
        all.extend(heads.into_iter().flatten().map(of_norm));
    }
    all.push(of_norm(&model.norm));
    all
}

#[test]
fn gradients_are_those_of_autodiff() {
    for name in NETWORKS {
        let model = cut(name, &Device::flex());
        let windows = windows(&model, 3);
        let slices: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
        let ours = loss_and_gradients(&model, EVERYTHING, &slices).unwrap();
        let twin = cut(name, &Device::flex().autodiff());
        let theirs = loss(&twin, &windows);
        let value = theirs.clone().into_scalar::<f64>();
        assert!(
            (ours.loss - value).abs() < 1e-5,
            "{name}: {} {value}",
            ours.loss
        );
        let gradients = theirs.backward();
        let theirs = by_autodiff(&twin, &gradients);
        assert_eq!(theirs.len(), ours.gradients.len());
        for (theirs, ours) in theirs.into_iter().zip(ours.gradients) {
            let ours = numbers(ours);
            assert_eq!(theirs.len(), ours.len(), "{name}");
            let pairs = || ours.iter().zip(&theirs);
            let apart: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let length: f64 = theirs.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!(apart <= 1e-8 * length, "{name}: {apart:e} of {length:e}");
        }
    }
}

#[test]
fn the_loss_changes_as_the_gradients_say() {
    for name in NETWORKS {
        let mut model = cut(name, &Device::flex());
        let windows = windows(&model, 2);
        let slices: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
        let found = loss_and_gradients(&model, EVERYTHING, &slices).unwrap();
        let square = |x: &Tensor<2>| (x.clone() * x.clone()).sum().into_scalar::<f64>();
        let length = found.gradients.iter().map(square).sum::<f64>().sqrt();
        let named = tensors(&model, EVERYTHING);
        let start: Vec<Tensor<2>> = named.map(|(_, value)| value).collect();
        assert_eq!(start.len(), found.gradients.len(), "{name}");
        let mut at = |far: f64| {
            let pairs = start.iter().zip(&found.gradients);
            let moved =
                pairs.map(|(value, gradient)| value.clone() + gradient.clone() * (far / length));
            set(&mut model, EVERYTHING, moved.collect());
            loss(&model, &windows).into_scalar::<f64>()
        };
        let far = 1e-2;
        let slope = (at(far) - at(-far)) / (2.0 * far);
        assert!(
            (slope / length - 1.0).abs() < 0.01,
            "{name}: {slope} {length}"
        );
    }
}

#[test]
fn training_learns_and_freezes_what_it_should() {
    for name in NETWORKS {
        let mut model = cut(name, &Device::flex());
        let windows = windows(&model, 6);
        let before = loss(&model, &windows).into_scalar::<f64>();
        let key = numbers(model.blocks[0].linear(Role::Key).matrices().remove(0).1);
        let options = options(Trained::LRC);
        let lesson = lesson(&windows, &options);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        train(&mut model, &lesson, &mut journal).unwrap();
        let after = loss(&model, &windows).into_scalar::<f64>();
        assert!(after < before - 0.1, "{name}: {before} to {after}");
        let still = numbers(model.blocks[0].linear(Role::Key).matrices().remove(0).1);
        assert_eq!(
            key, still,
            "{name}: a weight that is not trained has changed"
        );
    }
}

#[test]
fn distillation_comes_nearer_to_the_original() {
    let device = Device::flex();
    let original = checkpoint("llama");
    let mut model = cut("llama", &device);
    let windows = windows(&model, 6);
    let options = options(Trained::LRC);
    let lesson = lesson(&windows, &options);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("journal");
    let mut journal = Journal::open(&path).unwrap();
    distil(&original, &mut model, &lesson, &mut journal).unwrap();
    for layer in 0..model.blocks.len() {
        let of_block = journal
            .curve
            .iter()
            .filter(|point| point.block == Some(layer));
        let looks: Vec<f64> = of_block.filter_map(|point| point.held_out).collect();
        let least = looks.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least < 0.98 * looks[0], "block {layer}: {looks:?}");
    }
}

/// Runs until some step, then anew from what is on disk: the same curve to the last digit.
#[test]
fn a_killed_training_goes_on_to_the_same_curve() {
    let device = Device::flex();
    let place = tempfile::tempdir().unwrap();
    let mut curves = Vec::new();
    let mut ends = Vec::new();
    for stops in [vec![20], vec![7, 13, 20]] {
        let path = place.path().join(format!("journal-{}", stops.len()));
        let mut model = cut("llama", &device);
        for stop in stops {
            // A killed run leaves nothing but its journal.
            model = cut("llama", &device);
            let windows = windows(&model, 6);
            let full = options(Trained::LRC);
            let lesson = Lesson {
                windows: &windows,
                held_out: &windows,
                options: &full,
                progress: &KilledAt(stop, std::sync::Mutex::new(0)),
            };
            let mut journal = Journal::open(&path).unwrap();
            let run = std::panic::AssertUnwindSafe(|| {
                train(&mut model, &lesson, &mut journal).unwrap();
                journal.curve.clone()
            });
            if let Ok(curve) = std::panic::catch_unwind(run) {
                curves.push(curve);
            }
        }
        ends.push(numbers(
            model.blocks[1].linear(Role::Down).matrices().remove(0).1,
        ));
    }
    assert_eq!(curves.len(), 2);
    assert_eq!(curves[0], curves[1]);
    assert_eq!(ends[0], ends[1]);
}

/// Panics at a step, as a kill would end it.
struct KilledAt(usize, std::sync::Mutex<usize>);

impl Progress for KilledAt {
    fn start(&self, _: &'static str, _: usize) {}

    fn advance(&self, steps: usize) {
        let mut done = self.1.lock().unwrap();
        *done += steps;
        assert!(*done <= self.0, "killed");
    }
}

#[test]
fn all_norms_of_a_model_are_trained_and_have_the_names_of_its_tensors() {
    for name in NETWORKS {
        let checkpoint = checkpoint(name);
        let model = Decoder::load(&checkpoint, &Device::flex()).unwrap();
        let only_norms = Trained {
            lrc: false,
            factors: false,
            norms: true,
            atoms: false,
        };
        let mut named: Vec<String> = tensors(&model, only_norms).map(|(name, _)| name).collect();
        let all = checkpoint.tensors().keys();
        let mut expected: Vec<String> = all.filter(|name| name.contains("norm")).cloned().collect();
        named.sort();
        expected.sort();
        assert_eq!(named, expected, "{name}");
    }
}

/// Whether a model's trained matrices are bit for bit those of another.
fn same(one: &Decoder, other: &Decoder) -> bool {
    let all = |model| {
        let named = tensors(model, EVERYTHING);
        named
            .flat_map(|(_, value)| numbers(value))
            .collect::<Vec<f32>>()
    };
    all(one) == all(other)
}

#[test]
fn a_training_that_diverges_ends_with_its_best_state_and_tells_where() {
    let windows = windows(&cut("llama", &Device::flex()), 6);
    let place = tempfile::tempdir().unwrap();
    let learn = |steps, rate| {
        let options = TrainingOptions {
            steps,
            rate,
            interval: 4,
            ..options(Trained::LRC)
        };
        let lesson = lesson(&windows, &options);
        let mut model = cut("llama", &Device::flex());
        let mut journal = Journal::open(&place.path().join("journal")).unwrap();
        let ending = train(&mut model, &lesson, &mut journal);
        (model, ending)
    };
    // No state is better than the start: nothing to end with.
    let (model, failed) = learn(20, 1e30);
    assert!(matches!(failed, Err(Error::Diverged { .. })), "{failed:?}");
    assert!(same(&model, &cut("llama", &Device::flex())));
    std::fs::remove_dir_all(place.path().join("journal")).unwrap();
    let (better, ending) = learn(8, 3e-3);
    assert!(ending.unwrap().diverged.is_empty());
    // From there on with steps that are too long.
    let (model, ending) = learn(20, 1e30);
    let ending = ending.unwrap();
    let Diverged { block, step, loss } = ending.diverged[0];
    assert!(block.is_none() && (8..12).contains(&step) && !loss.is_finite());
    assert!(same(&model, &better), "the best state is lost");
}

#[test]
fn a_distillation_that_diverges_keeps_its_better_blocks_and_tells_where() {
    let device = Device::flex();
    let original = checkpoint("llama");
    let windows = windows(&cut("llama", &device), 6);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("journal");
    let learn = |rate, progress: &dyn Progress| {
        let options = TrainingOptions {
            rate,
            ..options(Trained::LRC)
        };
        let lesson = Lesson {
            windows: &windows,
            held_out: &windows,
            options: &options,
            progress,
        };
        let mut model = cut("llama", &device);
        let mut journal = Journal::open(&path).unwrap();
        let ending = distil(&original, &mut model, &lesson, &mut journal);
        (model, ending)
    };
    let (_, failed) = learn(1e30, &Silent);
    assert!(matches!(failed, Err(Error::Diverged { .. })), "{failed:?}");
    std::fs::remove_dir_all(&path).unwrap();
    // The first block is distilled, then the run is killed, and goes on with steps that are too long.
    let killed = KilledAt(22, std::sync::Mutex::new(0));
    let run = std::panic::AssertUnwindSafe(|| learn(3e-3, &killed));
    assert!(std::panic::catch_unwind(run).is_err());
    let (model, ending) = learn(1e30, &Silent);
    let ending = ending.unwrap();
    let places: Vec<_> = ending.diverged.iter().map(|found| found.block).collect();
    assert_eq!(
        places,
        (1..model.blocks.len()).map(Some).collect::<Vec<_>>()
    );
    let untouched = cut("llama", &device);
    for (layer, (one, other)) in model.blocks.iter().zip(&untouched.blocks).enumerate() {
        let all = |block| EVERYTHING.matrices(block, layer).into_iter();
        let pairs = all(one).zip(all(other));
        let same = |((_, a), (_, b)): ((_, Tensor<2>), (_, Tensor<2>))| numbers(a) == numbers(b);
        assert_eq!(pairs.into_iter().all(same), layer > 0, "block {layer}");
    }
}

/// Looks at what lies in a folder, whenever there is progress.
struct Watching {
    folder: PathBuf,
    seen: std::sync::Mutex<std::collections::BTreeMap<String, Vec<u64>>>,
}

impl Progress for Watching {
    fn start(&self, _: &'static str, _: usize) {}

    fn advance(&self, _: usize) {
        let mut seen = self.seen.lock().unwrap();
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let size = entry.metadata().unwrap().len();
            seen.entry(name).or_default().push(size);
        }
    }
}

#[test]
fn a_distilled_block_is_written_once_and_streams_lie_on_disk() {
    let device = Device::flex();
    let original = checkpoint("llama");
    let mut model = cut("llama", &device);
    let windows = windows(&model, 6);
    let place = tempfile::tempdir().unwrap();
    let watching = Watching {
        folder: place.path().join("journal"),
        seen: std::sync::Mutex::default(),
    };
    let options = options(Trained::LRC);
    let lesson = Lesson {
        windows: &windows,
        held_out: &windows[..2],
        options: &options,
        progress: &watching,
    };
    let mut journal = Journal::open(&watching.folder).unwrap();
    distil(&original, &mut model, &lesson, &mut journal).unwrap();
    let mut seen = watching.seen.into_inner().unwrap();
    let stream = |windows: usize| (4 * windows * 24 * original.config().hidden) as u64;
    for (name, windows) in [("learn", 6), ("test", 2)] {
        for way in ["original", "model"] {
            let sizes = seen.remove(&format!("{name}.{way}")).unwrap();
            assert!(
                sizes.iter().all(|&size| size == stream(windows)),
                "{name}.{way}"
            );
        }
    }
    // Each block's file has its matrices once, and was never written anew: all looks saw the same size.
    for (layer, block) in model.blocks.iter().enumerate() {
        let sizes = seen.remove(&format!("block-{layer}.safetensors")).unwrap();
        let matrices = options.trained.matrices(block, layer);
        let count: usize = matrices
            .iter()
            .map(|(_, x)| x.dims().iter().product::<usize>())
            .sum();
        let curve = journal
            .curve
            .iter()
            .filter(|point| point.block == Some(layer))
            .count();
        let numbers = (4 * count + 8 * 5 * curve) as u64;
        assert!(
            sizes
                .iter()
                .all(|&size| (numbers..numbers + 2048).contains(&size)),
            "{sizes:?}"
        );
    }
    assert!(seen.is_empty(), "{seen:?}");
    let left = std::fs::read_dir(&watching.folder).unwrap().count();
    assert_eq!(left, model.blocks.len(), "the streams are removed");
}

#[test]
fn a_lesson_without_windows_is_refused() {
    let device = Device::flex();
    let some = windows(&cut("llama", &device), 6);
    let short: Vec<Vec<u32>> = some.iter().map(|window| window[1..].to_vec()).collect();
    let options = options(Trained::LRC);
    for (windows, held_out) in [(&[][..], &some[..]), (&some, &[]), (&some, &short)] {
        let lesson = Lesson {
            windows,
            held_out,
            options: &options,
            progress: &Silent,
        };
        let place = tempfile::tempdir().unwrap();
        let mut model = cut("llama", &device);
        let mut journal = Journal::open(&place.path().join("journal")).unwrap();
        let refused = |ended| matches!(ended, Err(Error::Calibrate(_)));
        assert!(refused(train(&mut model, &lesson, &mut journal)));
        let original = checkpoint("llama");
        assert!(refused(distil(
            &original,
            &mut model,
            &lesson,
            &mut journal
        )));
    }
}
