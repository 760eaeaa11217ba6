//! The options of `run think`, and those that say how a text goes on.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use compress_models::{DeviceChoice, Sampler};
use compress_think::{Format, LayerPolicy, Side};
use serde_json::Value;

use super::{
    About, Model, Printing, Resources, Sharing, Text, count, fraction, share, whole_number,
};
use crate::job;

/// A thinner key-value cache.
#[derive(Debug, Args)]
pub struct Think {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub policy: PolicyOptions,

    /// Choose --key-bits and --value-bits for each layer by itself, so that old tokens take this share of the bytes that
    /// 16-bit floats would, and attention to the prompts of --calibrate has the least error.
    #[arg(long, value_name = "FRACTION", value_parser = share,
          conflicts_with_all = ["lambda", "values", "cache_bits", "key_bits", "value_bits", "rotate"])]
    pub per_layer: Option<f64>,

    /// The text that --per-layer measures on: not the one that the result is judged by.
    #[arg(long, value_name = "FILE", requires = "per_layer")]
    pub calibrate: Option<PathBuf>,

    /// How many windows of it; half of each is a prompt [default: 4].
    #[arg(long, value_name = "N", value_parser = count, requires = "per_layer")]
    pub samples: Option<usize>,

    /// The directory to write: the model as it is, and `cache_policy.json`. It must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Replace the output, if it exists and is an earlier output or empty.
    #[arg(long)]
    pub force: bool,

    /// Don't run the model afterwards.
    #[arg(long)]
    pub no_evaluate: bool,

    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub printing: Printing,
}

/// What a cache keeps of a prompt.
#[derive(Clone, Debug, Args)]
pub struct PolicyOptions {
    /// λ, the share of the channels of keys that is dropped: those of least ‖q kᵀ‖. A quarter or so is free, half is
    /// felt [default: 0.4; 0 beside --cache-bits, --key-bits, --values or --tokens].
    #[arg(long, value_name = "FRACTION")]
    lambda: Option<f64>,

    /// The same for values, of which the smallest channels are dropped: costs more than dropping those of keys.
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION")]
    values: f64,

    /// Let dropped channels count by their mean over the prompt: one more product per query and head.
    #[arg(long)]
    compensate: bool,

    /// Bits of what is kept of old tokens: 16 (floats), 8, 4, 3 or 2; keys in groups of 64 tokens of a channel, values of
    /// 64 channels of a token, and half a bit more for the scales of a group. 4 is as good as free, and the first thing to try.
    /// Without this all numbers stay 32-bit floats, which is twice what other programs' caches have.
    #[arg(long, value_name = "BITS", value_parser = ["16", "8", "4", "3", "2"])]
    cache_bits: Option<String>,

    /// Bits of a number of old keys on average, those of scales with them, from 1 to 8.5: each channel gets 0, 2, 3, 4 or
    /// 8, as many as its score is worth, the one that λ drops channels by. In place of --cache-bits, and better at the
    /// same bytes: 3 here and --value-bits 2 are a fifth of 16-bit floats.
    #[arg(long, value_name = "BITS", value_parser = mixed_bits, requires = "value_bits",
          conflicts_with_all = ["lambda", "cache_bits", "rotate"])]
    key_bits: Option<f64>,

    /// Bits of old values beside --key-bits: 8, 4, 3 or 2, rotated, and a quarter of a bit more for the scale of a
    /// group of 64.
    #[arg(long, value_name = "BITS", value_parser = ["8", "4", "3", "2"], requires = "key_bits")]
    value_bits: Option<String>,

    /// Rotate heads by a Hadamard matrix before they are rounded to 8 bits or less, in groups of channels for keys too.
    #[arg(long, requires = "cache_bits")]
    rotate: bool,

    /// The share of a prompt's old tokens that is kept: those that its last queries attend to most. What is
    /// left out cannot be asked for later.
    #[arg(long, default_value_t = 1.0, value_name = "FRACTION")]
    tokens: f64,

    /// How many of a prompt's last queries judge channels and tokens; all of a shorter prompt.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = window)]
    window: usize,

    /// How many of the newest tokens stay whole.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = recent)]
    recent: usize,

    /// How many of the first tokens stay whole: models attend to the first one whenever they have nothing to look for
    /// [default: 4 where bits are fewer than 16, else 0].
    #[arg(long, value_name = "N", value_parser = recent)]
    sinks: Option<usize>,

    /// Treat tokens after the prompt like it as they age, in groups of 64; else they stay whole. Always so where bits
    /// are fewer than 16.
    #[arg(long)]
    fold: bool,
}

fn recent(text: &str) -> std::result::Result<usize, String> {
    whole_number(text, 0..=job::LONGEST)
}

fn mixed_bits(text: &str) -> std::result::Result<f64, String> {
    let bits = fraction(text, |x| (1.0..=8.5).contains(&x));
    bits.ok_or_else(|| "a number from 1 to 8.5".into())
}

fn window(text: &str) -> std::result::Result<usize, String> {
    whole_number(text, 1..=job::LONGEST)
}

impl Think {
    /// The row of the table of methods.
    pub const ABOUT: &[About] = &[About {
        name: "think",
        does: "a thinner key-value cache at run time: channels of keys that no query looks at, bits, tokens",
        needs: "nothing",
        costs: "seconds; no weight is touched",
        paper: "arXiv 2407.21018",
    }];
}

impl PolicyOptions {
    /// Refuses options that exclude each other.
    pub fn check(&self) -> Result<()> {
        let dropped = self.lambda.unwrap_or(0.0) > 0.0 || self.values > 0.0;
        ensure!(
            self.key_bits.is_none() || self.values == 0.0,
            "--value-bits rotates values, which mixes the channels of a head, so that none can be dropped: leave out --values"
        );
        ensure!(
            !(self.rotate && dropped),
            "--rotate mixes the channels of a head, so that none can be dropped: leave out --lambda and --values, or --rotate"
        );
        ensure!(
            !self.rotate || self.cache_bits.as_deref() != Some("16"),
            "--rotate does nothing for 16-bit floats: give --cache-bits 8 or less"
        );
        Ok(())
    }

    /// The policy of every layer.
    pub fn policy(&self) -> LayerPolicy {
        let formats = self.formats();
        // The paper's, where nothing else is asked for.
        let alone = formats.is_none() && self.values == 0.0 && self.tokens >= 1.0;
        let usual = if alone { 0.4 } else { 0.0 };
        let side = |lambda, format| Side {
            lambda,
            compensate: self.compensate,
            format,
        };
        let [keys, values] = formats.unwrap_or_default();
        let rounded = !matches!(keys, Format::F32 | Format::F16);
        LayerPolicy {
            keys: side(self.lambda.unwrap_or(usual), keys),
            values: side(self.values, values),
            tokens: self.tokens,
            window: self.window,
            recent: self.recent,
            sinks: self.sinks.unwrap_or(if rounded { SINKS } else { 0 }),
            fold: self.fold || rounded,
        }
    }

    /// The formats of keys and values, where options say some.
    fn formats(&self) -> Option<[Format; 2]> {
        // Numbers are some of those that the parser lets through.
        let parsed = |bits: &Option<String>| bits.as_deref().and_then(|bits| bits.parse().ok());
        if let (Some(keys), Some(bits)) = (self.key_bits, parsed(&self.value_bits)) {
            return Some([Format::Mixed { bits: keys }, Format::Rotated { bits }]);
        }
        Some(match parsed(&self.cache_bits)? {
            16 => [Format::F16; 2],
            bits if self.rotate => [Format::Rotated { bits }; 2],
            bits => [Format::ByChannel { bits }, Format::ByToken { bits }],
        })
    }

    /// First tokens that stay whole where layers are rounded, each in its own way.
    pub fn sinks_of_rounded(&self) -> usize {
        self.sinks.unwrap_or(SINKS)
    }
}

/// As many first tokens as usual are whole where others are rounded: models attend to one, or to the few of a template.
const SINKS: usize = 4;

fn variable(text: &str) -> std::result::Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    let value = serde_json::from_str(value).map_err(|e| format!("the value is no JSON: {e}"))?;
    Ok((name.into(), value))
}

/// A text that goes on.
#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    pub model: Model,

    /// The beginning of the text, or with --chat a question; read from stdin where left out.
    #[arg(short, long, value_name = "TEXT")]
    pub prompt: Option<String>,

    /// Ask as in a conversation, by the model's chat template. Without --prompt each line of stdin is a question.
    #[arg(long)]
    pub chat: bool,

    /// What a conversation begins with, in place of what the template says.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,

    /// A variable of the chat template, its value in JSON: `enable_thinking=false` for Qwen3. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, requires = "chat")]
    pub set: Vec<(String, Value)>,

    /// Tokens at most. Ends sooner at an end token, a stop text, or where the model's context is full.
    #[arg(short = 'n', long, default_value_t = 256, value_name = "N")]
    pub tokens: usize,

    /// End where this text comes up, without it; may be repeated.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,

    #[command(flatten)]
    pub sampling: Sampling,

    /// What the key-value cache keeps of the prompt: the file of a policy, as `run think` writes it, or `none` for all of
    /// it [default: the policy beside the model's weights, if there is one].
    #[arg(long, value_name = "POLICY.json|none")]
    pub cache: Option<PathBuf>,

    #[command(flatten)]
    pub sharing: Sharing,

    /// Where to run: auto (a real GPU if one answers, else the CPU), cpu, or wgpu.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    #[command(flatten)]
    pub printing: Printing,
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sampling {
    /// 0 takes the most likely token each time; 1 draws by the model's own probabilities, less sharpens them.
    #[arg(long, default_value_t = 0.0, value_name = "T", value_parser = temperature)]
    temperature: f64,

    /// Draw from the K most likely tokens only.
    #[arg(long, value_name = "K", value_parser = count)]
    top_k: Option<usize>,

    /// Draw from the most likely tokens that have this probability together.
    #[arg(long, default_value_t = 1.0, value_name = "P", value_parser = share)]
    top_p: f64,

    /// Draw only tokens with this share of the probability of the most likely one.
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = up_to_1)]
    min_p: f64,

    /// Draws differ by this number, and by nothing else.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

fn up_to_1(text: &str) -> std::result::Result<f64, String> {
    fraction(text, |x| (0.0..=1.0).contains(&x)).ok_or_else(|| "a number from 0 to 1".into())
}

fn temperature(text: &str) -> std::result::Result<f64, String> {
    fraction(text, |x| (0.0..=100.0).contains(&x)).ok_or_else(|| "a number from 0 to 100".into())
}

impl Sampling {
    /// The sampler that is meant.
    pub const fn sampler(self) -> Sampler {
        let mut sampler = Sampler::new(self.temperature as f32, self.seed);
        sampler.top_k = self.top_k;
        sampler.top_p = self.top_p as f32;
        sampler.min_p = self.min_p as f32;
        sampler
    }
}
