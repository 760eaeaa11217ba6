//! The model card: the method, its cost in quality and size, and how to load the output.

use compress_core::{Scheme, Site};
use minijinja::{Environment, context};

use crate::{Error, Layout, Record, Result};

/// Fields of the model card that are not in the record.
#[derive(Clone, Debug)]
pub struct Card {
    /// The name of the output, as loaders would be given it.
    pub name: String,
    /// A Markdown table of source and output (perplexity, size, latency); empty where nothing was
    /// measured.
    pub table: String,
    /// The command line that made it.
    pub command: String,
}

/// The text of the card, whose instructions depend on the forms of the weights.
const TEMPLATE: &str = include_str!("card.md.jinja");

impl Card {
    /// The text of `README.md`: only the ways to load it that work for its forms. `kept` has the lines
    /// of the source's front matter that hold for the output.
    pub(crate) fn render(&self, record: &Record, kept: &str, layout: &Layout) -> Result<String> {
        let remote_code = layout.ranks().next().is_some();
        let schemes = layout.schemes();
        let rounded = in_words(&schemes.blocks);
        let rounded_ends = in_words(&schemes.ends);
        // vLLM's kernels for packed weights start at 4 bits.
        let mut of_blocks = schemes.blocks.iter();
        let kernels = of_blocks.all(|scheme| scheme.bits.count() >= 4);
        let tied = !layout.forms().contains_key(&Site::Head);
        // No other program is known to read a rounded embedding that is the head as well.
        let only_here = tied && rounded_ends.is_some();
        // The values that vLLM accepts for `--max-lora-rank`.
        let sizes = [8, 16, 32, 64, 128, 256, 320, 512];
        let rank = layout.corrections().next().map(|(_, rank)| rank);
        let lora_rank = rank.and_then(|rank| sizes.into_iter().find(|&size| size >= rank));
        let corrected = rank.is_some();
        // Without its correction a model would be served that is not the one of the figures.
        let serves = kernels && rounded_ends.is_none() && (!corrected || lora_rank.is_some());
        let Self {
            name,
            table,
            command,
        } = self;
        let Record {
            method,
            dense,
            format,
            source,
            ..
        } = record;
        let base = &source.name;
        let bytes = layout.bytes();
        let parameters = layout.parameters();
        Environment::new()
            .render_str(TEMPLATE, context! { kept, name, table, command, base, method, dense, format, remote_code, rounded, rounded_ends, tied, only_here, kernels, serves, corrected, lora_rank, bytes, parameters })
            .map_err(|e| Error::damaged("README.md", e.to_string()))
    }
}

/// Schemes as a list in a sentence; none where there are none.
fn in_words(schemes: &[Scheme]) -> Option<String> {
    let schemes: Vec<String> = schemes.iter().map(ToString::to_string).collect();
    (!schemes.is_empty()).then(|| schemes.join(" or "))
}
