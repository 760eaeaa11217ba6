//! What the test programs have in common: a text, options, and the loss by burn alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};
use compress_calibrate::Progress;
use compress_checkpoint::Checkpoint;
use compress_models::Decoder;
use compress_tune::{Lesson, Trained, TrainingOptions};

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &'static str, _: usize) {}
    fn advance(&self, _: usize) {}
}

/// One of the small networks.
pub fn checkpoint(name: &str) -> Checkpoint {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/networks");
    Checkpoint::open(&folder.join(name)).unwrap()
}

/// Made-up texts of 24 tokens.
pub fn windows(model: &Decoder, count: usize) -> Vec<Vec<u32>> {
    let token = |window: usize, place: usize| {
        ((window * 31 + place * place * 7 + place) % model.vocabulary()) as u32
    };
    let window = |window| (0..24).map(move |place| token(window, place)).collect();
    (0..count).map(window).collect()
}

/// A short training.
pub fn options(trained: Trained) -> TrainingOptions {
    TrainingOptions {
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
pub fn loss(model: &Decoder, windows: &[Vec<u32>]) -> Tensor<1> {
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

/// A lesson on windows that are held out as well.
pub fn lesson<'a>(windows: &'a [Vec<u32>], options: &'a TrainingOptions) -> Lesson<'a> {
    Lesson {
        windows,
        held_out: windows,
        options,
        progress: &Silent,
    }
}
