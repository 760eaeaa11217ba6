//! Gradients are what autodiff and finite differences say; training learns, and goes on where it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;

use burn::{
    module::Param,
    tensor::{Device, Int, Tensor, TensorData, activation::log_softmax},
};
use compress_calibrate::Progress;
use compress_checkpoint::Checkpoint;
use compress_core::{Role, Site, Weights as _};
use compress_models::{Decoder, Weight};
use compress_svd::truncate;
use compress_tune::{Journal, Lesson, Options, Trained, distil, loss_and_gradients, train};

const NETWORKS: [&str; 4] = ["llama", "mistral_window", "qwen2", "qwen3"];

const EVERYTHING: Trained = Trained {
    lrc: true,
    factors: true,
    norms: true,
};

struct Silent;

impl Progress for Silent {
    fn start(&self, _: &'static str, _: usize) {}
    fn advance(&self, _: usize) {}
}

fn checkpoint(name: &str) -> Checkpoint {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks");
    Checkpoint::open(&folder.join(name)).unwrap()
}

/// A network of which some weights are cut to rank 3.
fn cut(name: &str, device: &Device) -> Decoder {
    let checkpoint = checkpoint(name);
    let mut model = Decoder::load(&checkpoint, device).unwrap();
    for (layer, block) in model.blocks.iter_mut().enumerate() {
        for role in [Role::Query, Role::Value, Role::Output, Role::Up, Role::Down] {
            let weight = checkpoint.load(Site::new(layer, role)).unwrap();
            let factor = truncate(&weight, 3).unwrap().factor;
            block.linear_mut(role).replace(factor, device);
        }
    }
    model
}

fn windows(model: &Decoder, count: usize) -> Vec<Vec<u32>> {
    let token = |window: usize, place: usize| {
        ((window * 31 + place * place * 7 + place) % model.vocabulary()) as u32
    };
    let window = |window| (0..24).map(move |place| token(window, place)).collect();
    (0..count).map(window).collect()
}

fn options(trained: Trained) -> Options {
    Options {
        trained,
        steps: 20,
        batch: 3,
        rate: 3e-3,
        warm_up: 2,
        clip: 1.0,
        decay: 0.01,
        interval: 5,
        patience: 100,
        seed: 1,
    }
}

/// The mean loss of the windows, by burn alone.
fn loss(model: &Decoder, windows: &[Vec<u32>]) -> Tensor<1> {
    let inputs: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    let hidden = model.hidden(&inputs).unwrap();
    let [count, time, width] = hidden.dims();
    let hidden = hidden.slice([0..count, 0..time - 1, 0..width]);
    let logits = model.logits(hidden.reshape([count * (time - 1), width]));
    let targets: Vec<i32> = windows
        .iter()
        .flat_map(|window| window[1..].iter().map(|&token| token as i32))
        .collect();
    let targets = TensorData::new(targets, [count * (time - 1), 1]);
    let targets: Tensor<2, Int> = Tensor::from_data(targets, &logits.device());
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

/// The parameters in the order in which their gradients come.
fn parameters(model: &Decoder) -> Vec<Param<Tensor<2>>> {
    let of_weight = |weight: &Weight| match weight {
        Weight::Whole(weight) => vec![weight.clone()],
        Weight::LowRank(pair) => vec![pair.down.clone(), pair.up.clone()],
        Weight::RoundedPair(_) | Weight::Rounded(_) => Vec::new(),
    };
    let blocks = model.blocks.iter();
    blocks
        .flat_map(|block| Role::ALL.map(|role| of_weight(&block.linear(role).weight)))
        .flatten()
        .collect()
}

#[test]
fn gradients_are_those_of_autodiff() {
    for name in NETWORKS {
        let model = cut(name, &Device::flex());
        let windows = windows(&model, 3);
        let slices: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
        let trained = Trained {
            norms: false,
            ..EVERYTHING
        };
        let ours = loss_and_gradients(&model, trained, &slices).unwrap();
        let twin = cut(name, &Device::flex().autodiff());
        let theirs = loss(&twin, &windows);
        let value = theirs.clone().into_scalar::<f64>();
        assert!(
            (ours.loss - value).abs() < 1e-5,
            "{name}: {} {value}",
            ours.loss
        );
        let gradients = theirs.backward();
        let twins = parameters(&twin);
        assert_eq!(twins.len(), ours.gradients.len());
        for (parameter, ours) in twins.iter().zip(ours.gradients) {
            let theirs = numbers(parameter.val().grad(&gradients).unwrap());
            let ours = numbers(ours);
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
        let start: Vec<Vec<Tensor<2>>> = (0..)
            .zip(&model.blocks)
            .map(|(layer, block)| {
                let named = EVERYTHING.matrices(block, layer).into_iter();
                named.map(|(_, value)| value).collect()
            })
            .collect();
        let mut at = |far: f64| {
            let mut gradients = found.gradients.iter();
            for (block, values) in model.blocks.iter_mut().zip(&start) {
                let moved: Vec<Tensor<2>> = values
                    .iter()
                    .zip(gradients.by_ref())
                    .map(|(value, gradient)| value.clone() + gradient.clone() * (far / length))
                    .collect();
                EVERYTHING.set(block, &mut moved.into_iter());
            }
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
        let lesson = Lesson {
            windows: &windows,
            held_out: &windows,
            options: &options,
            progress: &Silent,
        };
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
    let lesson = Lesson {
        windows: &windows,
        held_out: &windows,
        options: &options,
        progress: &Silent,
    };
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
