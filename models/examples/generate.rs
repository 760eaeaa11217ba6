//! Continues a text greedily with the model of a folder, and prints the text up to its end token.
//!
//! ```sh
//! cargo run --release -p compress-models --example generate -- models/tiny "Once upon a time" 120
//! ```

use anyhow::{Context as _, Result, anyhow};
use compress_checkpoint::Checkpoint;
use compress_models::{Decoder, Device, generate};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt, count] = &arguments[..] else {
        return Err(anyhow!("usage: generate MODEL PROMPT COUNT"));
    };
    let checkpoint = Checkpoint::open(model.as_ref())?;
    let tokenizer = checkpoint.tokenizer()?;
    let encoding = tokenizer
        .encode(prompt.as_str(), false)
        .map_err(|e| anyhow!(e))?;
    // `encode` adds no special tokens: whether BOS leads a text is the model's config to say.
    let bos = checkpoint.config().bos;
    let prompt = [bos.as_slice(), encoding.get_ids()].concat();
    let decoder = Decoder::load(&checkpoint, &Device::flex())?;
    let text = generate(
        &decoder,
        &prompt,
        count.parse().context("COUNT is a number")?,
    )?;
    // The first token is BOS itself; one that comes later ends the story, in models whose EOS is their BOS.
    let end = text.iter().skip(1).position(|token| bos == Some(*token));
    let story = text
        .get(..end.map_or(text.len(), |end| end + 1))
        .unwrap_or_default();
    println!("{}", tokenizer.decode(story, true).map_err(|e| anyhow!(e))?);
    Ok(())
}
