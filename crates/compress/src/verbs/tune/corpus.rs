//! The windows of a corpus that training goes over, and those that are held out.

use anyhow::{Context as _, Result, ensure};
use compress_evaluate::Protocol;

use crate::{args::Tune, model::Opened, text};

/// Windows of a corpus, as tokens.
type Windows = Vec<Vec<u32>>;

/// The windows to train on, and the last ones of each text, which are held out: each text gives its share.
///
/// Fails where nothing is left to train on, or nothing is held out.
pub fn windows(job: &Tune, model: &Opened) -> Result<(Windows, Windows)> {
    let config = model.checkpoint.config();
    let protocol = Protocol {
        context: job
            .train_ctx
            .or(job.text.ctx)
            .unwrap_or(config.context.min(512)),
        windows: None,
        bos: false,
        documents: None,
    };
    let tokenizer = model.checkpoint.tokenizer()?;
    let (mut windows, mut held_out) = (Vec::new(), Vec::new());
    for path in &job.corpus {
        let name = path.display();
        let cut = protocol.cut(&text::read(path)?, &tokenizer, config.bos);
        let mut cut = cut.with_context(|| format!("cannot train on {name}"))?;
        // From the end, so that what is held out is a passage of its own.
        let kept = cut
            .len()
            .saturating_sub(job.held_out.div_ceil(job.corpus.len()));
        held_out.extend(cut.split_off(kept));
        windows.extend(cut);
    }
    ensure!(
        !windows.is_empty() && !held_out.is_empty(),
        "the corpus is too short: {} windows of {} tokens are to be held out, and more are needed to train on",
        job.held_out,
        protocol.context
    );
    Ok((windows, held_out))
}
