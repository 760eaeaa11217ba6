//! Decoding one token at a time gives what the whole text gives, whatever form the weights have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;

use compress_checkpoint::Checkpoint;
use compress_core::{Bits, Factor, Matrix, Pair, Quantised, Role, Scheme, Shape, Store, f16};
use compress_models::{Cache, Decoder, Device, Tensor, Weight};
use compress_numerics::Random;

/// Tokens of the text; more than the window of the network that has one.
const LENGTH: usize = 20;

#[derive(Clone, Copy, Debug)]
enum Form {
    Whole,
    LowRank,
    RoundedPair(Scheme),
    Rounded(Scheme),
    Corrected(Scheme),
}

impl Form {
    /// Made-up numbers of a size that keeps the residual stream within bounds.
    fn factor(self, shape: Shape, random: &mut Random) -> Factor {
        let rank = 5;
        let mut matrix = |rows: usize, cols: usize| {
            let scale = (cols as f32).sqrt().recip();
            Matrix::from_fn(rows, cols, |_, _| scale * random.normal())
        };
        let (up, down) = (matrix(shape.rows, rank), matrix(rank, shape.cols));
        match self {
            Self::Whole => Factor::whole(matrix(shape.rows, shape.cols)),
            Self::LowRank => Factor::low_rank(up, down),
            Self::RoundedPair(scheme) => {
                Factor::LowRank(Pair::new(up, down).quantised(scheme).unwrap())
            }
            Self::Rounded(scheme) => {
                Factor::Whole(Store::Quantised(rounded(shape, scheme, random)))
            }
            Self::Corrected(scheme) => Factor::Sum {
                base: Store::Quantised(rounded(shape, scheme, random)),
                correction: Pair::new(up, down),
            },
        }
    }
}

fn rounded(shape: Shape, scheme: Scheme, random: &mut Random) -> Quantised {
    let steps = f32::from(scheme.bits.steps());
    let mut code = || scheme.bits.least() + (random.uniform() * steps) as i8;
    let codes: Vec<i8> = (0..shape.size()).map(|_| code()).collect();
    let groups = shape.rows * scheme.groups(shape.cols);
    let zeros = (0..if scheme.symmetric { 0 } else { groups }).map(|_| code() / 4);
    let zeros = zeros.collect();
    let scale = 2.0 / steps / (shape.cols as f32).sqrt();
    let scales = (0..groups).map(|i| f16::from_f32(scale * (1.0 + (i % 5) as f32 / 5.0)));
    Quantised::from_codes(shape, scheme, &codes, scales.collect(), zeros).unwrap()
}

/// A fixture's network with weights of the given form, its embedding included.
fn decoder(network: &str, form: Form, device: &Device) -> Decoder {
    let folder = format!("../../tests/fixtures/networks/{network}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut decoder = Decoder::load(&checkpoint, device).unwrap();
    let mut random = Random(7);
    for block in &mut decoder.blocks {
        for role in Role::ALL {
            let linear = block.linear_mut(role);
            let factor = form.factor(linear.weight.shape(), &mut random);
            linear.replace(factor, device).unwrap();
        }
    }
    let embedding = form.factor(decoder.embedding.shape(), &mut random);
    decoder.embedding = Weight::new(embedding, device).unwrap();
    decoder
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let apart = (found - expected).abs() / expected.abs().max(1.0);
        assert!(apart < 1e-5, "{what}: {found} is not {expected}");
    }
}

fn check(network: &str, form: Form, device: &Device) {
    let decoder = decoder(network, form, device);
    let vocabulary = decoder.vocabulary() as u32;
    let text: Vec<u32> = (0..LENGTH as u32)
        .map(|i| (i * 37 + 5) % vocabulary)
        .collect();
    let whole = decoder.hidden(&[&text]).unwrap();
    let [_, _, width] = whole.dims();
    let logits = numbers(decoder.logits(whole.clone().reshape([LENGTH, width])));
    let whole = numbers(whole);
    // One by one from the start, and after a beginning that was read at once.
    for start in [1, 6] {
        let mut cache = Cache::new();
        decoder.hidden_after(&mut cache, &text[..start]).unwrap();
        for place in start..LENGTH {
            let what = format!("{network}, {form:?}, on {device:?}, token {place} after {start}");
            let hidden = decoder
                .hidden_after(&mut cache, &text[place..=place])
                .unwrap();
            let next = numbers(decoder.logits(hidden.clone().reshape([1, width])));
            assert_near(&numbers(hidden), &whole[place * width..][..width], &what);
            let vocabulary = vocabulary as usize;
            assert_near(&next, &logits[place * vocabulary..][..vocabulary], &what);
        }
        assert_eq!(cache.len(), LENGTH);
    }
}

/// With rotary scaling, biases, norms of heads, a window, and heads of their own width.
const NETWORKS: [&str; 5] = ["llama", "llama_biased", "mistral_window", "qwen2", "qwen3"];

fn check_everywhere(form: Form) {
    for network in NETWORKS {
        check(network, form, &Device::flex());
        // Where numbers are not plain ones, as on a GPU.
        check(network, form, &Device::flex().autodiff());
    }
}

#[test]
fn whole_weights() {
    check_everywhere(Form::Whole);
}

#[test]
fn low_rank_weights() {
    check_everywhere(Form::LowRank);
}

#[test]
fn rounded_pairs() {
    check_everywhere(Form::RoundedPair(Scheme::symmetric(Bits::Eight, None)));
}

#[test]
fn rounded_weights() {
    check_everywhere(Form::Rounded(Scheme::symmetric(Bits::Four, Some(16))));
    check_everywhere(Form::Rounded(Scheme::symmetric(Bits::Eight, None)));
}

#[test]
fn rounded_weights_with_zero_points_and_a_correction() {
    for bits in [Bits::Two, Bits::Three, Bits::Four] {
        check_everywhere(Form::Corrected(Scheme {
            bits,
            group: Some(16),
            symmetric: false,
        }));
    }
}

#[test]
fn a_conversation_goes_on_in_pieces() {
    let form = Form::Rounded(Scheme::symmetric(Bits::Four, Some(16)));
    let decoder = decoder("qwen3", form, &Device::flex());
    let text: Vec<u32> = (0..12).collect();
    let whole = numbers(decoder.hidden(&[&text]).unwrap());
    let mut cache = Cache::new();
    let mut pieces = Vec::new();
    for piece in [
        &text[..3],
        &text[3..4],
        &text[4..9],
        &text[9..10],
        &text[10..],
    ] {
        pieces.extend(numbers(decoder.hidden_after(&mut cache, piece).unwrap()));
    }
    assert_near(&pieces, &whole, "pieces");
}

#[test]
fn a_token_that_is_not_there_leaves_the_cache_as_it_was() {
    let decoder = decoder("llama", Form::Whole, &Device::flex());
    let mut cache = Cache::new();
    decoder.hidden_after(&mut cache, &[1, 2]).unwrap();
    assert!(decoder.hidden_after(&mut cache, &[1 << 20]).is_err());
    assert_eq!(cache.len(), 2);
    let next = numbers(decoder.hidden_after(&mut cache, &[3]).unwrap());
    let whole = numbers(decoder.hidden(&[&[1, 2, 3]]).unwrap());
    assert_near(&next, &whole[2 * next.len()..], "the next token");
}
