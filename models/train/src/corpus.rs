//! The training text as tokens, and the tokenizer learnt from it.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use compress_numerics::Random;
use tokenizers::{
    AddedToken, Tokenizer, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainerBuilder},
    normalizers::NFC,
    pre_tokenizers::byte_level::ByteLevel,
};

use crate::folder::VOCABULARY;

/// The separator of stories in the file.
const SEPARATOR: &str = "<|endoftext|>";

/// The token that begins every story.
pub const BOS: &str = "<|story|>";

/// Bytes of held-out text that ship as the evaluation sample.
const SAMPLE_BYTES: usize = 80_000;

/// Bytes of training text that ship as calibration text.
const CALIBRATION_BYTES: usize = 150_000;

/// Tokens to train on and tokens held out; each story is led by BOS.
pub struct Corpus {
    train: Vec<u32>,
    held_out: Vec<u32>,
}

impl Corpus {
    /// Learns a byte-level BPE tokenizer from the training stories, writes it and both shipped texts into the folder,
    /// and tokenises all stories. Fails where a file cannot be written.
    pub fn new(text: &str, folder: &Path) -> Result<Self> {
        let stories = stories(text);
        // The tokenizer is learnt from training stories only, so that held-out figures stay honest.
        let (train, held_out) = stories.split_at(stories.len() - stories.len() / 50);
        let tokenizer = learn(train)?;
        tokenizer
            .save(folder.join("tokenizer.json"), false)
            .map_err(|e| anyhow!(e))?;
        std::fs::write(folder.join("sample.txt"), beginning(held_out, SAMPLE_BYTES))?;
        std::fs::write(
            folder.join("calibration.txt"),
            beginning(train, CALIBRATION_BYTES),
        )?;
        let corpus = Self {
            train: tokens(&tokenizer, BOS, train)?,
            held_out: tokens(&tokenizer, BOS, held_out)?,
        };
        eprintln!(
            "{} tokens to train on, {} held out",
            corpus.train.len(),
            corpus.held_out.len()
        );
        Ok(corpus)
    }

    /// The tokens of stories by a tokenizer that there is; the last sixteenth of them is held out.
    pub fn by(tokenizer: &Tokenizer, bos: &str, text: &str) -> Result<Self> {
        let stories = stories(text);
        let (train, held_out) = stories.split_at(Self::first_held_out(stories.len()));
        Ok(Self {
            train: tokens(tokenizer, bos, train)?,
            held_out: tokens(tokenizer, bos, held_out)?,
        })
    }

    /// The place of the first story that [`by`](Self::by) holds out of so many.
    pub const fn first_held_out(stories: usize) -> usize {
        stories - stories.div_ceil(16)
    }

    /// A hash of all tokens (FNV-1a), by which a run knows its text again.
    pub fn digest(&self) -> String {
        let tokens = self.train.iter().chain(&self.held_out);
        let hash = tokens.fold(0xcbf2_9ce4_8422_2325, |hash: u64, &token| {
            (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// Tokens to train on, and tokens held out.
    pub fn sizes(&self) -> [usize; 2] {
        [self.train.len(), self.held_out.len()]
    }

    /// A window of `size` tokens from a uniformly random place; may cross stories. The text must be longer.
    pub fn window(&self, random: &mut Random, size: usize) -> &[u32] {
        let places = (self.train.len() - size) as f32;
        // Two draws, since one has only 24 bits.
        let place = f64::from(random.uniform()) + f64::from(random.uniform()) / f64::from(1 << 24);
        let start = (place * f64::from(places)) as usize;
        &self.train[start.min(self.train.len() - size)..][..size]
    }

    /// At most so many windows from the beginning of the held-out stories.
    pub fn held_out(&self, size: usize, most: usize) -> Vec<Vec<u32>> {
        self.held_out
            .chunks_exact(size)
            .take(most)
            .map(<[u32]>::to_vec)
            .collect()
    }
}

/// The stories of a file.
pub fn stories(text: &str) -> Vec<&str> {
    text.split(SEPARATOR)
        .map(str::trim)
        .filter(|story| !story.is_empty())
        .collect()
}

/// The first whole stories that fit in so many bytes.
fn beginning(stories: &[&str], bytes: usize) -> String {
    let mut text = String::new();
    for story in stories {
        if text.len() + story.len() > bytes {
            break;
        }
        text = text + story + "\n\n";
    }
    text
}

/// A tokenizer of [`VOCABULARY`] byte-level tokens.
fn learn(stories: &[&str]) -> Result<Tokenizer> {
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(NFC))
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(|e| anyhow!(e))?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(BOS, true)])
        .build();
    tokenizer
        .train(&mut trainer, stories.iter())
        .map_err(|e| anyhow!(e))?;
    let json = tokenizer.to_string(false).map_err(|e| anyhow!(e))?;
    json.parse().map_err(|e| anyhow!("{e}"))
}

/// All stories as one sequence, BOS before each.
fn tokens(tokenizer: &Tokenizer, bos: &str, stories: &[&str]) -> Result<Vec<u32>> {
    let bos = tokenizer
        .token_to_id(bos)
        .with_context(|| format!("the tokenizer has no token `{bos}` to begin a story with"))?;
    let encoded = tokenizer
        .encode_batch_fast(stories.to_vec(), false)
        .map_err(|e| anyhow!(e))?;
    Ok(encoded
        .iter()
        .flat_map(|story| std::iter::once(bos).chain(story.get_ids().iter().copied()))
        .collect())
}
