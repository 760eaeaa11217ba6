//! Atoms that layers share are one parameter: its gradient is the sum over the layers, and training it helps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::{module::Param, tensor::Device};
use compress_core::{
    Bits, DictionaryForm, Factor, Group, Precision, Role, Scheme, Site, Weights as _,
};
use compress_models::{Decoder, Mixture, Store, Weight, to_device};
use compress_svd::truncate;
use compress_tune::{
    Error, Journal, Trained, TrainingOptions, distil, loss_and_gradients, set, tensors, train,
};

mod common;

use common::{checkpoint, lesson, windows};

/// Atoms and residuals.
const BOTH: Trained = Trained {
    atoms: true,
    ..Trained::LRC
};

/// A network whose layers share one atom of queries and one of outputs, the mean of their weights, with a length of 1
/// as Matrix PCA gives it; each layer has a residual of rank 2.
fn shared(device: &Device) -> Decoder {
    let checkpoint = checkpoint("llama");
    let mut model = Decoder::load(&checkpoint, device).unwrap();
    let layers = model.blocks.len();
    for role in [Role::Query, Role::Output] {
        let weights: Vec<_> = (0..layers)
            .map(|layer| checkpoint.load(Site::new(layer, role)).unwrap())
            .collect();
        let shape = weights[0].shape();
        let mut atom: Vec<f32> = vec![0.0; shape.size()];
        for weight in &weights {
            let pairs = atom.iter_mut().zip(weight.data());
            pairs.for_each(|(sum, x)| *sum += x);
        }
        let length = atom.iter().map(|x| x * x).sum::<f32>().sqrt();
        atom.iter_mut().for_each(|x| *x /= length);
        let atoms = to_device(atom, [shape.rows, shape.cols], device);
        let atoms = Store::Float(Param::from_tensor(atoms));
        for (layer, weight) in weights.iter().enumerate() {
            let pair = Factor::LowRank(truncate(weight, 2).unwrap().pair());
            let Weight::LowRank(residual) = Weight::new(pair, device).unwrap() else {
                unreachable!("a pair is a pair");
            };
            let coefficient = vec![0.5 * length * (1.0 + layer as f32) / layers as f32];
            let coefficients = to_device(coefficient, [1, 1], device);
            model.blocks[layer].linear_mut(role).weight = Weight::Shared(Mixture {
                atoms: atoms.clone(),
                coefficients: Store::Float(Param::from_tensor(coefficients)),
                residual: Some(residual),
                dictionary: DictionaryForm {
                    group: Group { role, first: 0 },
                    atoms: 1,
                    precision: Precision::Float,
                },
            });
        }
    }
    model
}

/// Without decay, which would count as learning here.
fn options(trained: Trained) -> TrainingOptions {
    TrainingOptions {
        decay: 0.0,
        ..common::options(trained)
    }
}

/// The mean loss of the windows, by burn alone.
fn loss(model: &Decoder, windows: &[Vec<u32>]) -> f64 {
    common::loss(model, windows).into_scalar()
}

#[test]
fn the_loss_changes_as_the_gradients_by_atoms_and_coefficients_say() {
    let only = Trained { lrc: false, ..BOTH };
    let mut model = shared(&Device::flex());
    let windows = windows(&model, 2);
    let slices: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    let found = loss_and_gradients(&model, only, &slices).unwrap();
    let (names, start): (Vec<_>, Vec<_>) = tensors(&model, only).unzip();
    // A coefficient for each layer and role; atoms once for each role.
    assert_eq!(start.len(), 2 * model.blocks.len() + 2, "{names:?}");
    assert_eq!(found.gradients.len(), start.len());
    // One after the other: the long ones would hide the short.
    for (place, gradient) in found.gradients.iter().enumerate() {
        let square = (gradient.clone() * gradient.clone()).sum();
        let length = square.into_scalar::<f64>().sqrt();
        let mut at = |far: f64| {
            let mut values = start.clone();
            values[place] = values[place].clone() + gradient.clone() * (far / length);
            set(&mut model, only, values);
            loss(&model, &windows)
        };
        // As far as changes the loss by this, which is little beside its curvature and much beside its digits.
        let far = 1e-3 / length;
        let slope = (at(far) - at(-far)) / (2.0 * far);
        let name = &names[place];
        assert!(
            (slope / length - 1.0).abs() < 0.01,
            "{name}: {slope} {length}"
        );
    }
}

/// Trains, and gives the loss before and after.
fn trained(what: Trained) -> (Decoder, [f64; 2]) {
    let mut model = shared(&Device::flex());
    let windows = windows(&model, 6);
    let before = loss(&model, &windows);
    let options = options(what);
    let lesson = lesson(&windows, &options);
    let place = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&place.path().join("journal")).unwrap();
    train(&mut model, &lesson, &mut journal).unwrap();
    let after = loss(&model, &windows);
    (model, [before, after])
}

#[test]
fn with_atoms_the_loss_falls_further_and_layers_still_share_them() {
    let (_, [before, residuals]) = trained(Trained::LRC);
    let (model, [_, both]) = trained(BOTH);
    assert!(residuals < before - 0.02, "{before} {residuals}");
    assert!(both < residuals - 0.02, "{residuals} {both}");
    let atoms = model.blocks.iter().map(|block| {
        let Weight::Shared(mixture) = &block.linear(Role::Query).weight else {
            panic!("queries are mixtures");
        };
        mixture.atoms.float().unwrap().val().into_data()
    });
    let atoms: Vec<_> = atoms.collect();
    assert!(atoms.windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn atoms_that_are_rounded_and_distillations_are_refused() {
    let (device, original) = (Device::flex(), checkpoint("llama"));
    let mut model = shared(&device);
    let windows = windows(&model, 6);
    let options = options(BOTH);
    let lesson = lesson(&windows, &options);
    let place = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&place.path().join("journal")).unwrap();
    let refused = distil(&original, &mut model, &lesson, &mut journal);
    assert!(matches!(refused, Err(Error::ByBlock)));
    let weight = original.load(Site::new(0, Role::Output)).unwrap();
    let scheme = Scheme::symmetric(Bits::Eight, None);
    let rounded = Factor::whole(weight).stores()[0].quantised(scheme).unwrap();
    let Weight::Whole(rounded) = Weight::new(Factor::Whole(rounded), &device).unwrap() else {
        panic!("a whole weight is whole");
    };
    for block in &mut model.blocks {
        if let Weight::Shared(mixture) = &mut block.linear_mut(Role::Output).weight {
            mixture.atoms = rounded.clone();
        }
    }
    let refused = train(&mut model, &lesson, &mut journal).unwrap_err();
    assert!(refused.to_string().contains("model.dictionaries.o_proj_0"));
}
