//! Networks that are loaded block by block give the figures of whole ones, and a reference is run once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    borrow::Cow,
    ops::Range,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use compress_checkpoint::Checkpoint;
use compress_core::{DictionaryForm, Form, Format, Group, Precision, Role, Scheme, Site};
use compress_evaluate::{Comparison, Error, Outline, Pass, Reference, ScoringFootprint, Source};
use compress_models::{
    Block, Decoder, Device, Mixtures, Network, Result, RotaryAngles, Streamed, Tensor,
};

fn fixture(name: &str) -> Checkpoint {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    Checkpoint::open(&fixtures.join(name)).unwrap()
}

fn networks() -> Vec<Checkpoint> {
    let folders = ["llama", "llama_sharded", "mistral_window", "qwen2", "qwen3"];
    let folders = folders.map(|name| fixture(&format!("networks/{name}")));
    folders
        .into_iter()
        .chain([fixture("gguf/llama.gguf")])
        .collect()
}

/// Windows of several lengths, down to those with few predictions, for which there are other kernels.
fn windows(vocabulary: usize) -> Vec<Vec<u32>> {
    let token =
        |window: usize, place: usize| ((window * 31 + place * place * 7) % vocabulary) as u32;
    let lengths = [24, 2, 9, 17, 3, 24, 12];
    let window = |(window, length)| (0..length).map(|place| token(window, place)).collect();
    lengths.into_iter().enumerate().map(window).collect()
}

const fn pass(windows: &[Vec<u32>], batch: usize) -> Pass<'_> {
    Pass {
        windows,
        batch,
        split: None,
        done: &|_| (),
    }
}

/// All figures but the times.
fn figures(found: &Comparison) -> Vec<f64> {
    let others = found.others.iter().flat_map(|other| {
        let kl = other.kl;
        let kl = [kl.mean, kl.median, kl.p99, kl.max, kl.same_top];
        [other.score.perplexity].into_iter().chain(kl)
    });
    [found.original.perplexity]
        .into_iter()
        .chain(others)
        .collect()
}

/// A network whose weights are a little off.
fn variant(model: &Checkpoint) -> Decoder {
    let mut decoder = Decoder::load(model, &Device::flex()).unwrap();
    for block in &mut decoder.blocks {
        let norm = &mut block.feed_forward_norm;
        norm.gamma = burn::module::Param::from_tensor(norm.gamma.val() * 1.5);
    }
    decoder
}

#[test]
fn streamed_networks_have_the_figures_of_whole_ones_to_the_last_digit() {
    for model in networks() {
        let windows = windows(model.config().vocabulary);
        let whole = Decoder::load(&model, &Device::flex()).unwrap();
        let streamed = Streamed::open(&model, &Device::flex()).unwrap();
        let other = variant(&model);
        for some in [&windows[..], &windows[..1], &windows[1..2]] {
            let compare = |original: &dyn Network, batch| {
                let original = Source::Network(original);
                let found = pass(some, batch).compare(original, &[&other, &whole]);
                figures(&found.unwrap())
            };
            let expected = compare(&whole, 1);
            assert!(expected[2] > 0.0, "the variant is the original");
            assert!(expected[8] < 1e-12, "the original diverges from itself");
            for batch in [1, 2, 3, 100] {
                let found = compare(&streamed, batch);
                assert_eq!(found, expected, "{}, {batch}", model.path().display());
                let alone = pass(some, batch).perplexity(&streamed).unwrap();
                assert_eq!(alone.perplexity.to_bits(), expected[0].to_bits());
            }
        }
    }
}

/// A network that counts how often a block is run.
struct Counting<'a> {
    network: &'a Decoder,
    blocks: AtomicUsize,
}

impl Network for Counting<'_> {
    fn layers(&self) -> usize {
        self.network.layers()
    }

    fn vocabulary(&self) -> usize {
        self.network.vocabulary()
    }

    fn device(&self) -> Device {
        self.network.device()
    }

    fn embed(&self, text: &[u32]) -> Result<Tensor<3>> {
        Network::embed(self.network, text)
    }

    fn angles(&self, positions: Range<usize>) -> RotaryAngles {
        self.network.angles(positions)
    }

    fn block(&self, layer: usize) -> Result<Cow<'_, Block>> {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.network.block(layer)
    }

    fn normed(&self, residual: Tensor<3>) -> Tensor<3> {
        self.network.normed(residual)
    }

    fn logits(&self, hidden: &Tensor<2>, slices: &[Range<usize>]) -> Result<Vec<Tensor<2>>> {
        Network::logits(self.network, hidden, slices)
    }

    fn slices_at_a_time(&self) -> usize {
        self.network.slices_at_a_time()
    }
}

#[test]
fn an_original_is_run_once_however_much_is_measured_against_it() {
    let place = tempfile::tempdir().unwrap();
    for (index, model) in networks().iter().enumerate() {
        let windows = windows(model.config().vocabulary);
        let whole = Decoder::load(model, &Device::flex()).unwrap();
        let head = Streamed::open(model, &Device::flex()).unwrap();
        let other = variant(model);
        let original = Counting {
            network: &whole,
            blocks: AtomicUsize::new(0),
        };
        let path = place.path().join(index.to_string());
        let reference = Reference::new(&original, head, &pass(&windows, 3), &path).unwrap();
        let run = original.blocks.load(Ordering::Relaxed);
        assert_eq!(run, 3 * whole.blocks.len(), "a block for each of 3 batches");
        let against = |original: Source<'_>| {
            let found = pass(&windows, 1).compare(original, &[&other, &whole]);
            figures(&found.unwrap())
        };
        let expected = against(Source::Network(&whole));
        for _ in 0..2 {
            assert_eq!(against(Source::Reference(&reference)), expected);
        }
        assert_eq!(original.blocks.load(Ordering::Relaxed), run);
    }
}

#[test]
fn a_block_is_loaded_once_for_all_windows_of_a_batch() {
    let model = fixture("networks/llama");
    let windows = windows(model.config().vocabulary);
    let whole = Decoder::load(&model, &Device::flex()).unwrap();
    for (batch, batches) in [(1, 7), (2, 4), (4, 2), (7, 1), (100, 1)] {
        let counting = Counting {
            network: &whole,
            blocks: AtomicUsize::new(0),
        };
        pass(&windows, batch).perplexity(&counting).unwrap();
        let loaded = counting.blocks.load(Ordering::Relaxed);
        assert_eq!(loaded, batches * whole.blocks.len(), "batches of {batch}");
    }
}

#[test]
fn the_tokens_that_are_told_of_are_those_of_the_windows() {
    let model = fixture("networks/llama");
    let windows = windows(model.config().vocabulary);
    let whole = Decoder::load(&model, &Device::flex()).unwrap();
    let streamed = Streamed::open(&model, &Device::flex()).unwrap();
    for network in [&whole as &dyn Network, &streamed] {
        let told = AtomicUsize::new(0);
        let pass = Pass {
            done: &|tokens| {
                told.fetch_add(tokens, Ordering::Relaxed);
            },
            ..pass(&windows, 3)
        };
        pass.perplexity(network).unwrap();
        let all: usize = windows.iter().map(Vec::len).sum();
        assert_eq!(told.into_inner(), all);
    }
}

#[test]
fn models_of_two_vocabularies_are_not_compared() {
    let [one, other] = ["llama", "qwen2"].map(|name| fixture(&format!("networks/{name}")));
    let decoders = [&one, &other].map(|model| Decoder::load(model, &Device::flex()).unwrap());
    if decoders[0].vocabulary() == decoders[1].vocabulary() {
        return;
    }
    let windows = windows(8);
    let refused = pass(&windows, 1).compare(Source::Network(&decoders[0]), &[&decoders[1]]);
    assert!(matches!(refused, Err(Error::Vocabulary { .. })));
}

#[test]
fn batches_are_as_large_as_memory_allows_and_no_larger() {
    let model = fixture("networks/qwen3");
    let need = ScoringFootprint {
        models: vec![Outline::of(&model); 2],
        reference: None,
        mixtures: Mixtures::default(),
        time: 1024,
        windows: 64,
    };
    assert_eq!(need.batch(need.streamed(1) - 1), None);
    for batch in [1, 2, 5, 63, 64] {
        assert_eq!(need.batch(need.streamed(batch)), Some(batch));
    }
    assert_eq!(need.batch(usize::MAX), Some(64));
}

#[test]
fn what_is_packed_takes_its_packed_size_and_a_streamed_model_a_block() {
    let model = fixture("networks/llama");
    let scheme: Scheme = Scheme::symmetric(compress_core::Bits::Four, None);
    let rounded = Form::quantised(scheme, 0);
    let packed = |(&site, &form): (&Site, &Form)| match site {
        Site::Block { .. } => (site, rounded),
        Site::Embedding | Site::Head => (site, form),
    };
    let forms = model.forms().iter().map(packed).collect();
    let need = |forms| ScoringFootprint {
        models: vec![Outline {
            config: model.config(),
            forms,
        }],
        reference: None,
        mixtures: Mixtures::default(),
        time: 16,
        windows: 1,
    };
    let (whole, packed) = (need(model.forms()), need(&forms));
    let weights: usize = model
        .forms()
        .iter()
        .map(|(site, form)| {
            let shape = model.config().weight_shape(*site);
            let bytes = |form: Form| -> usize {
                let stores = form.stores(shape).into_iter();
                stores
                    .map(|(precision, shape)| precision.bytes(shape, Format::F32))
                    .sum()
            };
            bytes(*form) - bytes(forms[site])
        })
        .sum();
    // Beside the packed words a file has two numbers for the shape of each weight.
    let shapes = 16 * Site::blocks(model.config().layers).count();
    // The allocator rounds up by a sixteenth on average.
    let expected = (weights + shapes) * 17 / 16;
    assert!((whole.whole() - packed.whole()).abs_diff(expected) <= 1);
    assert!(whole.streamed(1) < whole.whole());
}

#[test]
fn nothing_to_predict_is_refused() {
    let decoder = Decoder::load(&fixture("networks/llama"), &Device::flex()).unwrap();
    for windows in [vec![], vec![vec![1, 2], vec![]], vec![vec![1]]] {
        let found = pass(&windows, 1).perplexity(&decoder);
        assert!(matches!(found, Err(Error::Protocol { .. })), "{found:?}");
    }
}

#[test]
fn behind_a_prompt_in_a_whole_cache_the_figures_are_the_same() {
    for model in networks() {
        let mut windows = windows(model.config().vocabulary);
        windows.retain(|window| window.len() >= 9);
        let whole = Decoder::load(&model, &Device::flex()).unwrap();
        let shortest = windows.iter().map(Vec::len).min().unwrap();
        for split in [1, 5, shortest - 2] {
            let behind = |windows| Pass {
                split: Some(split),
                ..pass(windows, 1)
            };
            let cached = behind(&windows).perplexity(&whole).unwrap();
            // What is predicted from the prompt's own positions is not scored: a pass over whole windows less that.
            let prompts: Vec<Vec<u32>> = windows.iter().map(|w| w[..=split].to_vec()).collect();
            let at_once = pass(&windows, 1).perplexity(&whole).unwrap();
            let prompt = pass(&prompts, 1).perplexity(&whole).unwrap();
            let sum = |p: compress_evaluate::Perplexity| p.loss * p.tokens as f64;
            assert_eq!(cached.tokens, at_once.tokens - prompt.tokens);
            let difference = sum(cached) - (sum(at_once) - sum(prompt));
            assert!(
                difference.abs() < 1e-4,
                "{}, {split}: {difference}",
                model.path().display()
            );
        }
        let behind = |split| Pass {
            split: Some(split),
            ..pass(&windows, 1)
        };
        let streamed = Streamed::open(&model, &Device::flex()).unwrap();
        let refused = behind(1).perplexity(&streamed).unwrap_err().to_string();
        assert!(refused.contains("--memory"), "{refused}");
        let refused = behind(shortest - 1).perplexity(&whole).unwrap_err();
        assert!(matches!(refused, Error::Protocol { .. }), "{refused}");
    }
}

#[test]
fn shared_atoms_take_their_room_once_and_a_matrix_on_each_core() {
    let model = fixture("networks/llama");
    let layers = model.config().layers;
    let shape = model.config().shape(Role::Query);
    let group = Group {
        role: Role::Query,
        first: 0,
    };
    let mixture = Form::Shared {
        dictionary: DictionaryForm {
            group,
            atoms: 1,
            precision: Precision::Float,
        },
        residual: None,
    };
    let mixed = |(&site, &form): (&Site, &Form)| {
        let form = if group.admits(site) { mixture } else { form };
        (site, form)
    };
    let forms = model.forms().iter().map(mixed).collect();
    let whole = |forms, mixtures| {
        let need = ScoringFootprint {
            models: vec![Outline {
                config: model.config(),
                forms,
            }],
            reference: None,
            mixtures,
            time: 16,
            windows: 1,
        };
        need.whole()
    };
    let dense = whole(model.forms(), Mixtures::Shared);
    let shared = whole(&forms, Mixtures::Shared);
    // Of the weights one is left, and a coefficient each. One window runs on one core.
    let saved = 4 * ((layers - 1) * shape.size() - layers) * 17 / 16;
    let taken = 4 * shape.size();
    assert!(
        (dense + taken - shared).abs_diff(saved) <= 1,
        "{dense} {shared}"
    );
    assert!(whole(&forms, Mixtures::MultipliedOut) >= dense);
}
