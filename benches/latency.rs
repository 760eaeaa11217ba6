//! Generating: the time to read a prompt, and the time of one more token, of a model whole and made smaller.
//!
//! ```sh
//! cargo bench --bench latency
//! ```
//!
//! Each time has in it what brings the logits of the last token to the host, which waits for the device. Of a model
//! that is not a toy, prompts of 2048 tokens and contexts of 4096 are measured for few forms, for all of them with
//! `COMPRESS_BENCH=all`.

#[allow(dead_code, reason = "shared with benches that use the rest")]
mod common;

use std::{
    cell::LazyCell,
    hint::black_box,
    time::{Duration, Instant},
};

use common::{
    Bench, Group,
    models::{Form, Model, load},
};
use compress_models::{Cache, Decoder, DeviceChoice, Result};

/// Tokens of prompts, and of contexts that one more token is added to.
const PROMPTS: [usize; 3] = [128, 512, 2048];
const CONTEXTS: [usize; 3] = [128, 1024, 4096];

const DENSE: &str = "dense";
const INT4: &str = "int4";
const THIN: &str = "thin cache";

/// Forms by their speed: none of them measures on data, which would change nothing of it.
fn forms() -> [Form; 7] {
    let rounded = "lorc --quantizer nearest --metric plain --group 32 --embedding-bits 8";
    [
        Form::new(DENSE, ""),
        Form::new("low-rank 0.8", "svd --keep 0.8"),
        Form::new("low-rank 0.6", "svd --keep 0.6"),
        Form::new(INT4, rounded),
        Form::new("int4 + rank 8", format!("{rounded} --rank 8")),
        Form::new("shared", "masa --keep 0.6 --atoms 1 --metric plain"),
        Form::new(THIN, "think --lambda 0 --cache-bits 4"),
    ]
}

fn main() {
    common::run_models("latency", measure);
}

fn measure(bench: &mut Bench, model: &Model, device: DeviceChoice) {
    let mut group = bench.group(&model.name);
    let (device, device_name) = match device.open() {
        Ok(opened) => opened,
        Err(error) => return group.skip("all forms", error),
    };
    for form in forms() {
        let loaded = model.made(&form).and_then(|checkpoint| {
            let context = checkpoint.config().context;
            Ok((load(&checkpoint, &device)?, context))
        });
        let (decoder, context) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                group.skip(form.name, format_args!("{error:#}"));
                continue;
            }
        };
        let case = (form.name, device_name.as_str());
        let usual = [DENSE, INT4].contains(&form.name);
        // What a thin cache is for is a long context.
        let long = usual || form.name == THIN;
        for length in wanted(PROMPTS, context, usual) {
            prefill(&mut group, case, &decoder, length);
        }
        for length in wanted(CONTEXTS, context, long) {
            decode(&mut group, case, &decoder, length);
        }
    }
}

/// Lengths that the model's context allows, with room for the tokens that are timed; the last only where it is wanted.
fn wanted(lengths: [usize; 3], context: usize, last: bool) -> impl Iterator<Item = usize> {
    let most = lengths[if last || common::all() { 2 } else { 1 }];
    let fits = move |length: &usize| *length <= most && length + 64 <= context;
    lengths.into_iter().filter(fits)
}

/// Tokens that are all different enough.
fn tokens(decoder: &Decoder, length: usize) -> Vec<u32> {
    let vocabulary = decoder.vocabulary() as u32;
    (0..length as u32).map(|i| i * 37 % vocabulary).collect()
}

/// Reading a prompt into an empty cache.
fn prefill(group: &mut Group<'_>, case: (&str, &str), decoder: &Decoder, length: usize) {
    let prompt = tokens(decoder, length);
    let quantity = format!("prefill {length}");
    let mut failed = None;
    group.time(case, &quantity, Some(length as u64), |bencher| {
        bencher.iter(|| {
            let logits = last_logits(decoder, &mut Cache::of(decoder), black_box(&prompt));
            failed = logits.err();
        });
    });
    group.check(case.0, &quantity, failed);
}

/// One more token behind a context, which grows by those that are timed one after the other.
fn decode(group: &mut Group<'_>, case: (&str, &str), decoder: &Decoder, length: usize) {
    // Made for the first run only, and not timed.
    let filled = LazyCell::new(|| {
        let mut cache = Cache::of(decoder);
        last_logits(decoder, &mut cache, &tokens(decoder, length)).map(|_| cache)
    });
    let quantity = format!("decode at {length}");
    let mut failed = None;
    group.time(case, &quantity, None, |bencher| {
        bencher.iter_custom(|times| match &*filled {
            Ok(filled) => timed(decoder, filled, times).unwrap_or_else(|error| {
                failed = Some(error.to_string());
                NO_TIME
            }),
            Err(error) => {
                failed = Some(error.to_string());
                NO_TIME
            }
        });
    });
    group.check(case.0, &quantity, failed);
}

/// What is told of a run that failed: criterion wants a time above 0.
const NO_TIME: Duration = Duration::from_nanos(1);

/// How long so many tokens take, each behind the last.
fn timed(decoder: &Decoder, filled: &Cache, times: u64) -> Result<Duration> {
    // Beyond these the context would be another: they begin anew.
    const AT_A_TIME: u64 = 32;
    let mut spent = Duration::ZERO;
    let mut left = times;
    while left > 0 {
        let mut cache = filled.clone();
        // A clone has no room for another token; the first makes it, and is not timed.
        last_logits(decoder, &mut cache, &[5])?;
        let count = left.min(AT_A_TIME);
        let clock = Instant::now();
        for _ in 0..count {
            black_box(last_logits(decoder, &mut cache, &[5])?);
        }
        spent += clock.elapsed();
        left -= count;
    }
    Ok(spent)
}

/// Adds tokens to a cache, and brings the logits of the last to the host.
fn last_logits(decoder: &Decoder, cache: &mut Cache, tokens: &[u32]) -> Result<Vec<f32>> {
    let hidden = decoder.hidden_after(cache, tokens)?;
    let [_, time, width] = hidden.dims();
    let last = hidden.narrow(1, time - 1, 1).reshape([1, width]);
    Ok(decoder
        .logits(last)
        .into_data()
        .try_into_vec()
        .unwrap_or_default())
}
