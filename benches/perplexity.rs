//! Scoring a text: how many tokens per second, and the perplexity itself, of a model whole and by each method.
//!
//! ```sh
//! cargo bench --bench perplexity
//! ```
//!
//! The perplexity is that of 4 windows of 512 tokens (or of the model's context), so that all forms are done in
//! minutes: it compares them, and is no figure for a document. With a cache, half of each window is a prompt, and what
//! follows it is scored.

#[allow(dead_code, reason = "shared with benches that use the rest")]
mod common;

use common::{
    Bench, Group,
    models::{Form, Model, load},
};
use compress_evaluate::{Pass, Perplexity};
use compress_models::{Decoder, DeviceChoice};

/// Windows that are scored for the perplexity, and tokens of each.
const WINDOWS: usize = 4;
const CONTEXT: usize = 512;

/// Tokens of the windows that are timed, of which each thread has one.
const TIMED: usize = 128;

/// Every method, and whether what follows a prompt is scored.
fn forms() -> [(Form, bool); 9] {
    let int4 = "lorc --bits 4 --embedding-bits 8";
    let corrected = format!("{int4} --rank 8");
    let activation = "svd --keep 0.8 --metric activation";
    [
        (Form::new("dense", ""), false),
        (Form::new("svd 0.8", "svd --keep 0.8"), false),
        (Form::calibrated("svd activation 0.8", activation), false),
        (Form::calibrated("fwsvd 0.8", "fwsvd --keep 0.8"), false),
        (Form::calibrated("welore 0.8", "welore --keep 0.8"), false),
        (Form::calibrated("masa 0.8", "masa --keep 0.8"), false),
        (Form::calibrated("lorc int4", int4), false),
        (Form::calibrated("lorc int4 + rank 8", corrected), false),
        (
            Form::new("think int4 cache", "think --lambda 0 --cache-bits 4"),
            true,
        ),
    ]
}

fn main() {
    common::run_models("perplexity", measure);
}

fn measure(bench: &mut Bench, model: &Model, device: DeviceChoice) {
    let mut group = bench.group(&model.name);
    let (device, device_name) = match device.open() {
        Ok(opened) => opened,
        Err(error) => return group.skip("all forms", error),
    };
    for (form, behind_prompt) in forms() {
        let loaded = model.made(&form).and_then(|checkpoint| {
            let context = checkpoint.config().context;
            let windows = model.windows(&checkpoint, CONTEXT.min(context), WINDOWS)?;
            Ok((load(&checkpoint, &device)?, windows))
        });
        match loaded {
            Ok((decoder, windows)) => {
                let case = (form.name, device_name.as_str());
                score(&mut group, case, &decoder, &windows, behind_prompt);
                // What a cache policy costs shows beside the same prompts without one.
                if behind_prompt {
                    let whole = Decoder {
                        policy: None,
                        ..decoder
                    };
                    score(&mut group, ("whole cache", case.1), &whole, &windows, true);
                }
            }
            Err(error) => group.skip(form.name, format_args!("{error:#}")),
        }
    }
}

/// The perplexity of some windows, and the time of as many of them as there are threads, cut short.
fn score(
    group: &mut Group<'_>,
    case: (&str, &str),
    decoder: &Decoder,
    windows: &[Vec<u32>],
    behind_prompt: bool,
) {
    let threads = rayon::current_num_threads().min(windows.len());
    let short: Vec<Vec<u32>> = windows[..threads]
        .iter()
        .map(|window| window[..window.len().min(TIMED)].to_vec())
        .collect();
    // As a pass counts them: all but the first of what follows the prompt.
    let length = short.first().map_or(0, Vec::len);
    let prompt = if behind_prompt { length / 2 } else { 0 };
    let tokens = threads * (length - prompt).saturating_sub(1);
    let mut failed = None;
    let timed = group.time(case, "scoring", Some(tokens as u64), |bencher| {
        bencher.iter(|| failed = pass(decoder, &short, behind_prompt).err());
    });
    group.check(case.0, "scoring", failed);
    if timed {
        match pass(decoder, windows, behind_prompt) {
            Ok(found) => group.value(case, "perplexity", found.perplexity),
            Err(error) => group.skip(case.0, error),
        }
    }
}

/// Scores windows; with a prompt, the half behind it.
fn pass(
    decoder: &Decoder,
    windows: &[Vec<u32>],
    behind_prompt: bool,
) -> compress_evaluate::Result<Perplexity> {
    let length = windows.first().map_or(0, Vec::len);
    let pass = Pass {
        windows,
        batch: 1,
        split: behind_prompt.then_some(length / 2),
        done: &|_| (),
    };
    pass.perplexity(decoder)
}
