//! How long a model takes to read a prompt and to say the next token.

use std::time::Instant;

use compress_models::{Cache, Decoder};
use serde::Serialize;

use crate::Result;

/// Times of one model, medians over repetitions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Milliseconds until the prompt is read.
    pub prompt_ms: f64,
    /// Milliseconds for each further token.
    pub token_ms: f64,
}

/// Times several models on the same prompt, which take turns token by token, so that their times
/// compare even on a machine with other work. Each says `count` more tokens: those of the prompt again.
pub fn latency(models: &[&Decoder], prompt: &[u32], count: usize) -> Result<Vec<Latency>> {
    let mut caches = vec![Cache::new(); models.len()];
    let mut reading = vec![0.0; models.len()];
    let mut saying = vec![Vec::new(); models.len()];
    let step = |decoder: &Decoder, cache: &mut Cache, tokens: &[u32]| {
        let clock = Instant::now();
        let hidden = decoder.hidden_after(cache, tokens)?;
        let [_, time, width] = hidden.dims();
        let logits = decoder
            .logits(hidden.narrow(1, time - 1, 1).reshape([1, width]))
            .into_data();
        drop(logits); // read back, so that the device has finished
        Ok::<_, crate::Error>(clock.elapsed().as_secs_f64() * 1e3)
    };
    for ((decoder, cache), time) in models.iter().zip(&mut caches).zip(&mut reading) {
        step(decoder, &mut Cache::new(), prompt)?; // the first pass warms up
        *time = step(decoder, cache, prompt)?;
    }
    for token in prompt.iter().cycle().take(count) {
        for ((decoder, cache), times) in models.iter().zip(&mut caches).zip(&mut saying) {
            times.push(step(decoder, cache, &[*token])?);
        }
    }
    let results = reading
        .iter()
        .zip(saying)
        .map(|(&prompt_ms, times)| Latency {
            prompt: prompt.len(),
            prompt_ms,
            token_ms: median(times),
        });
    Ok(results.collect())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
