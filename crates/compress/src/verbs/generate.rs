//! `compress generate MODEL -p "..."`: a text goes on, or with `--chat` a conversation.
//!
//! Text goes to stdout as it comes, and what there is to say of it to stderr.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use compress_checkpoint::{Checkpoint, Message};
use compress_models::{Decoder, Generation};
use serde::Serialize;
use serde_json::json;
use tokenizers::Tokenizer;

use crate::{Outcome, args::Generate, loaded::cache_bytes, model::Opened, report};

/// Why a text has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    /// The model has said so.
    EndToken,
    /// By a text of `--stop`.
    StopText,
    /// As many tokens as were asked for.
    Length,
    /// As many as the model can read.
    Context,
}

/// A model that is ready to speak.
struct Speaker<'a> {
    job: &'a Generate,
    checkpoint: &'a Checkpoint,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
}

/// An answer, or what follows a prompt.
struct Said {
    text: String,
    tokens: usize,
    ending: Ending,
    /// Seconds to the first token.
    first: f64,
    /// Seconds per token after it, where there is one.
    each: Option<f64>,
}

/// Tokens of a prompt that are enough to tell how the next one is written.
const BEFORE: usize = 16;

/// Runs the verb.
pub fn run(job: &Generate) -> Result<Outcome> {
    let mut model = Opened::open(job.model.name.as_deref(), job.printing.quiet)?;
    model.take_policy(job.cache.as_deref())?;
    let checkpoint = &model.checkpoint;
    checkpoint.config().predicts()?;
    let speaker = Speaker {
        job,
        checkpoint,
        tokenizer: checkpoint.tokenizer()?,
        ends: checkpoint.end_tokens()?,
    };
    let (device, _) = job.device.open()?;
    let decoder = Decoder::load_fixed(checkpoint, job.sharing.mixtures(), &device)?;
    if job.chat && job.prompt.is_none() {
        speaker.converse(&decoder)?;
    } else {
        speaker.answer(&decoder, &model.name)?;
    }
    Ok(Outcome::Kept)
}

impl Speaker<'_> {
    /// One prompt, and what follows it.
    fn answer(&self, decoder: &Decoder, name: &str) -> Result<()> {
        let prompt = if let Some(prompt) = &self.job.prompt {
            prompt.clone()
        } else {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            text
        };
        let ids = if self.job.chat {
            self.rendered(&[self.system(), vec![user(&prompt)]].concat())?
        } else {
            self.encoded(&prompt, true)?
        };
        let prompt_tokens = ids.len();
        let mut generation = Generation::new(decoder, &ids, self.job.sampling.sampler());
        let json = self.job.printing.json;
        if !(json || self.job.chat) {
            show(&prompt)?;
        }
        let said = self.say(&mut generation, !json)?;
        let bytes = cache_bytes(generation.into_cache());
        if json {
            return report::print(json!({
                "model": name,
                "prompt_tokens": prompt_tokens,
                "tokens": said.tokens,
                "text": said.text,
                "ended_by": said.ending,
                "first_token_ms": 1e3 * said.first,
                "token_ms": said.each.map(|seconds| 1e3 * seconds),
                "cache_bytes": bytes,
            }));
        }
        report::print("")?;
        self.tell_of(&said, prompt_tokens);
        Ok(())
    }

    /// A conversation: each line of stdin is a question.
    fn converse(&self, decoder: &Decoder) -> Result<()> {
        ensure!(
            !self.job.printing.json,
            "--json takes one question: give it by --prompt"
        );
        let mut messages = self.system();
        let mut generation = Generation::new(decoder, &[], self.job.sampling.sampler());
        for line in io::stdin().lock().lines() {
            messages.push(user(&line?));
            let ids = self.rendered(&messages)?;
            // The cache has what was said so far, unless the template or the tokenizer tell earlier turns in another way.
            generation.go_on(&ids);
            let said = self.say(&mut generation, true)?;
            report::print("")?;
            self.tell_of(&said, ids.len());
            messages.push(Message {
                role: "assistant".into(),
                content: said.text,
            });
        }
        Ok(())
    }

    /// Draws tokens until something ends it, and shows their text as it comes.
    fn say(&self, generation: &mut Generation<'_>, shown: bool) -> Result<Said> {
        let context = self.check_prompt(generation)?;
        let mut stream = self.tokenizer.decode_stream(true);
        let mut decode = |token| {
            let piece = stream.step(token).map_err(|e| anyhow::anyhow!("{e}"));
            let piece = piece.context("the tokenizer cannot decode its own token")?;
            anyhow::Ok(piece.unwrap_or_default())
        };
        // What is before it decides how a token is written: at the beginning of a text some leave out a space.
        let prompt = generation.text();
        for token in &prompt[prompt.len().saturating_sub(BEFORE)..] {
            decode(*token)?;
        }
        // Of `text` the first `out` bytes cannot be part of a stop text any more.
        let (mut text, mut out) = (String::new(), 0);
        let (start, mut first) = (Instant::now(), 0.0);
        let mut tokens = 0;
        let ending = loop {
            if tokens == self.job.tokens {
                break Ending::Length;
            }
            if generation.text().len() >= context {
                break Ending::Context;
            }
            let Some(token) = generation.next().transpose()? else {
                bail!("there is no prompt to go on from");
            };
            tokens += 1;
            if tokens == 1 {
                first = start.elapsed().as_secs_f64();
            }
            if self.ends.contains(&token) {
                break Ending::EndToken;
            }
            text += &decode(token)?;
            let stops = self.job.stop.iter();
            if let Some(end) = stops.filter_map(|stop| text[out..].find(stop)).min() {
                text.truncate(out + end);
                break Ending::StopText;
            }
            let ready = text.len() - self.held_back(&text);
            if shown {
                show(&text[out..ready])?;
            }
            out = ready;
        };
        if shown {
            show(&text[out..])?;
        }
        let rest = start.elapsed().as_secs_f64() - first;
        Ok(Said {
            text,
            tokens,
            ending,
            first,
            each: (tokens > 1).then(|| rest / (tokens - 1) as f64),
        })
    }

    /// Refuses a prompt that nothing can follow; gives the tokens that the model reads at most.
    fn check_prompt(&self, generation: &Generation<'_>) -> Result<usize> {
        let context = self.checkpoint.config().context;
        ensure!(
            !generation.text().is_empty(),
            "the prompt has no token, not even a BOS: give --prompt a text"
        );
        ensure!(
            generation.text().len() < context,
            "the prompt has {} tokens, and the model reads {context} at most; shorten it",
            generation.text().len()
        );
        Ok(context)
    }

    /// Bytes at the end of a text that a stop text may begin with.
    fn held_back(&self, text: &str) -> usize {
        let begun = |stop: &String| {
            let lengths = stop.char_indices().map(|(i, _)| i).rev();
            lengths
                .into_iter()
                .find(|&n| text.ends_with(&stop[..n]))
                .unwrap_or(0)
        };
        self.job.stop.iter().map(begun).max().unwrap_or(0)
    }

    fn system(&self) -> Vec<Message> {
        let system = self.job.system.iter().map(|content| Message {
            role: "system".into(),
            content: content.clone(),
        });
        system.collect()
    }

    /// A conversation up to where the model's answer begins.
    fn rendered(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let variables = self.job.set.iter().cloned().collect();
        let text = self.checkpoint.chat(messages, true, variables)?;
        // The template has put in all special tokens that there are to be.
        self.encoded(&text, false)
    }

    fn encoded(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, special);
        let encoding =
            encoding.map_err(|e| anyhow::anyhow!("the text could not be tokenised: {e}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tells how it went, and why it ended where that may surprise.
    fn tell_of(&self, said: &Said, prompt: usize) {
        if self.job.printing.quiet {
            return;
        }
        let Said {
            tokens,
            ending,
            first,
            each,
            ..
        } = said;
        let why = match ending {
            Ending::EndToken | Ending::StopText => "",
            Ending::Length => "; ended by -n",
            Ending::Context => "; ended since the model's context is full",
        };
        let rate = each.map_or_else(String::new, |each| {
            format!(", then {:.1} per second", each.recip())
        });
        tell!(
            "{tokens} tokens after {prompt}: the first in {:.0} ms{rate}{why}",
            1e3 * first
        );
    }
}

fn user(text: &str) -> Message {
    Message {
        role: "user".into(),
        content: text.into(),
    }
}

/// Shows some text at once. A reader that has closed the pipe is no error.
fn show(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}
