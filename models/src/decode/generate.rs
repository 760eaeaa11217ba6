//! Generation: a text is continued token by token, through the key-value cache.

use burn::tensor::Tensor;

use crate::{Cache, Decoder, Error, Result, Sampler, to_host};

/// The tokens that follow a prompt, one after the other, without end.
///
/// Each costs a pass through the network. No end token stops it, and no length: whoever takes the tokens knows when to
/// stop. After an error there are no more.
pub struct Generation<'a> {
    decoder: &'a Decoder,
    /// What was read so far.
    cache: Cache,
    sampler: Sampler,
    /// Prompt and answer so far.
    text: Vec<u32>,
    /// How many of them were read: all but the prompt, or the last token that was drawn.
    read: usize,
}

impl<'a> Generation<'a> {
    /// Nothing is computed before the first token is asked for. The prompt has at least one token.
    #[must_use]
    pub fn new(decoder: &'a Decoder, prompt: &[u32], sampler: Sampler) -> Self {
        Self {
            decoder,
            cache: Cache::of(decoder),
            sampler,
            text: prompt.to_vec(),
            read: 0,
        }
    }

    /// Goes on with another text, as that of a conversation with the next question. What it has in common with the text so
    /// far is not read again, if that is all of it.
    pub fn go_on(&mut self, text: &[u32]) {
        if !text.starts_with(&self.text[..self.read]) {
            self.cache = Cache::of(self.decoder);
            self.read = 0;
        }
        self.text = text.to_vec();
    }

    /// Prompt and answer so far.
    #[must_use]
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// The cache, as it was left.
    #[must_use]
    pub fn into_cache(self) -> Cache {
        self.cache
    }

    fn draw(&mut self) -> Result<u32> {
        let hidden = self
            .decoder
            .hidden_after(&mut self.cache, &self.text[self.read..])?;
        self.read = self.text.len();
        let logits = logits(self.decoder, hidden)?;
        self.sampler.draw(&logits).ok_or_else(|| Error::Execution {
            problem: "a logit is not finite".into(),
        })
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read == self.text.len() {
            return None;
        }
        let drawn = self.draw();
        // After an error nothing is left to be read.
        self.read = self.text.len();
        self.text.extend(drawn.as_ref().ok());
        Some(drawn)
    }
}

/// The prompt and `count` tokens after it, each the most likely one (greedy decoding; no end token stops it).
///
/// Fails, unless `count` is 0, on an empty prompt and on a token that the vocabulary does not have.
pub fn generate(decoder: &Decoder, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
    if prompt.is_empty() && count > 0 {
        return Err(Error::Lengths);
    }
    let generation = Generation::new(decoder, prompt, Sampler::greedy());
    let all = prompt.iter().copied().map(Ok).chain(generation.take(count));
    all.collect()
}

/// The logits after the last position of 1 × time × hidden.
fn logits(decoder: &Decoder, hidden: Tensor<3>) -> Result<Vec<f32>> {
    let [_, time, width] = hidden.dims();
    // Logits of the last position only: those of a whole prompt would be time × vocabulary.
    let last = hidden.narrow(1, time - 1, 1).reshape([1, width]);
    to_host(decoder.logits(last))
}
