//! Latency: the time to read a prompt, and the time per generated token.
//!
//! ```text
//! prompt_ms    one forward pass over the prompt, logits of its last token
//! token_ms     median over forward passes of one token, with a key-value cache
//! ```
//!
//! Each time includes the transfer of the logits to the host, which waits for the device.

use std::time::Instant;

use compress_models::{Cache, Decoder};
use serde::Serialize;

use crate::Result;

/// Latency of one model with a key-value cache, batch size 1.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Length of the prompt in tokens.
    pub prompt: usize,
    /// Milliseconds for the prompt and the logits of its last token: one run after a warm-up.
    pub prompt_ms: f64,
    /// Milliseconds per further token, the median.
    pub token_ms: f64,
}

/// Measures several models on the same prompt. They alternate token by token, so that their times
/// compare even on a machine with other load.
///
/// Each decodes `count` tokens, for which the prompt is repeated: the time does not depend on which
/// token it is, and sampling is left out. Fails where a forward pass does.
pub fn latency(models: &[&Decoder], prompt: &[u32], count: usize) -> Result<Vec<Latency>> {
    let mut caches: Vec<Cache> = models.iter().map(|model| Cache::of(model)).collect();
    let mut reading = vec![0.0; models.len()];
    let mut saying = vec![Vec::new(); models.len()];
    let step = |decoder: &Decoder, cache: &mut Cache, tokens: &[u32]| {
        let clock = Instant::now();
        let hidden = decoder.hidden_after(cache, tokens)?;
        let [_, time, width] = hidden.dims();
        // Only the last position, as in decoding.
        let logits = decoder
            .logits(hidden.narrow(1, time - 1, 1).reshape([1, width]))
            .into_data();
        drop(logits); // read back, so that the device has finished
        Ok::<_, crate::Error>(clock.elapsed().as_secs_f64() * 1e3)
    };
    // The first pass compiles kernels and fills caches, so it is run on a cache of its own and not
    // timed.
    for ((decoder, cache), time) in models.iter().zip(&mut caches).zip(&mut reading) {
        step(decoder, &mut Cache::of(decoder), prompt)?; // the first pass warms up
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

/// The upper median; 0 for no times.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
