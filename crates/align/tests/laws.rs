//! The laws of an alignment.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use compress_align::{Alignment, Heads, Options, Sides, align};
use compress_core::Matrix;
use compress_numerics::{
    Random,
    linalg::{Double, polar},
};

const HEADS: Heads = Heads {
    key_value: 3,
    queries: 2,
    size: 4,
};

/// Without residuals.
const PLAIN: Options = Options {
    residual: 0.0,
    rounds: 30,
};

fn noise(seed: u64) -> Sides {
    let rows = HEADS.key_value * HEADS.size;
    let mut random = Random(seed);
    [
        random.matrix(rows, 20),
        random.matrix(HEADS.queries * rows, 20),
    ]
}

/// A layer whose heads are in another order, each in another basis.
fn hidden(sides: &Sides, seed: u64) -> Sides {
    let (size, mut random) = (HEADS.size, Random(seed));
    let mut order: Vec<usize> = (0..HEADS.key_value).collect();
    random.shuffle(&mut order);
    let turns: Vec<Double> = order
        .iter()
        .map(|_| polar(&Double::from(&random.matrix(size, size))).unwrap().0)
        .collect();
    let turned = |rows: &Matrix| {
        let each = rows.rows() / HEADS.key_value;
        let at = |i: usize, j: usize| {
            let (head, row) = (i / each, i % each);
            let first = order[head] * each + row / size * size;
            let terms = (0..size).map(|k| {
                let weight = rows.data()[(first + k) * rows.cols() + j];
                turns[head].column(k)[row % size] * f64::from(weight)
            });
            terms.sum::<f64>() as f32
        };
        Matrix::from_fn(rows.rows(), rows.cols(), at)
    };
    [turned(&sides[0]), turned(&sides[1])]
}

fn aligned(layers: &[Sides], options: Options) -> Alignment {
    let layer = |index: usize| Ok(layers[index].clone());
    align(layers.len(), HEADS, &layer, options, &|| {}).unwrap()
}

#[test]
fn layers_that_differ_by_a_turn_are_found_to_be_one() {
    let first = noise(1);
    let layers: Vec<Sides> = (0..5).map(|seed| hidden(&first, seed)).collect();
    let found = aligned(&layers, PLAIN);
    let last = *found.left.last().unwrap();
    assert!(last < 1e-6, "{:?}", found.left);
    let moved = found.turns.iter().filter(|turn| !turn.keeps_places());
    assert!(moved.count() > 0);
    let value = |layer: usize| found.turns[layer].turned(&layers[layer][0]).unwrap();
    for layer in 1..5 {
        let distance = value(layer).squared_distance(&value(0));
        assert!(distance < 1e-8 * first[0].squared_norm(), "{distance}");
    }
}

#[test]
fn no_round_leaves_more() {
    let layers: Vec<Sides> = (10..17).map(noise).collect();
    for residual in [0.0, 0.3, 0.7] {
        let rounds = 30;
        let found = aligned(&layers, Options { residual, rounds });
        let Alignment { left, .. } = &found;
        assert!(left.len() > 2, "{left:?}");
        // Sums are in f32.
        let falls = left.windows(2).all(|pair| pair[1] < pair[0] * (1.0 + 1e-5));
        assert!(falls, "{left:?}");
        // An atom explains a layer of seven at the least.
        assert!(left[left.len() - 1] < 6.0 / 7.0, "{left:?}");
    }
}

#[test]
fn a_turn_keeps_the_length_of_every_head() {
    let layers: Vec<Sides> = (20..24).map(noise).collect();
    let found = aligned(&layers, PLAIN);
    for (turn, [value, output]) in found.turns.iter().zip(&layers) {
        for rows in [value, output] {
            let (turned, moved) = (turn.turned(rows).unwrap(), turn.moved(rows).unwrap());
            let each = rows.data().len() / HEADS.key_value;
            let lengths = |m: &Matrix| -> Vec<f32> {
                let heads = m.data().chunks(each);
                heads.map(|head| head.iter().map(|x| x * x).sum()).collect()
            };
            for (x, y) in lengths(&turned).iter().zip(lengths(&moved)) {
                assert!((x / y - 1.0).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn zeros_are_turned_to_zeros() {
    let zeros = |sides: Sides| sides.map(|side| Matrix::zeros(side.rows(), side.cols()));
    let layers = [noise(1), zeros(noise(1)), noise(2)];
    let found = aligned(&layers, PLAIN);
    let [value, _] = &layers[1];
    assert_eq!(found.turns[1].turned(value).unwrap(), *value);
    let nothing = [zeros(noise(1)), zeros(noise(2))];
    assert!(
        aligned(&nothing, PLAIN)
            .left
            .iter()
            .all(|left| *left == 0.0)
    );
}
