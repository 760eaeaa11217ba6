//! The model card: the method, its cost in quality and size, and how to load the output.

use compress_core::Scheme;
use minijinja::{Environment, context};

use crate::{Config, Error, Head, Layout, Record, Result, Schemes, huggingface::config::CAUSAL};

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
    pub(crate) fn render(
        &self,
        record: &Record,
        kept: &str,
        (config, layout): (&Config, &Layout),
    ) -> Result<String> {
        let factored = layout.is_factored();
        let shared = layout.mixtures().next().is_some();
        let mut residuals = layout.mixtures().map(|(.., rank)| rank);
        let pairs = layout.ranks().next().is_some() || residuals.any(|rank| rank > 0);
        let remote_code = factored || config.has_own_class();
        let (auto, predicts) = (config.auto_class(), config.class == CAUSAL);
        let schemes = layout.schemes();
        let rounded = in_words(&schemes.blocks);
        let rounded_ends = in_words(&schemes.ends);
        // vLLM's kernels for packed weights start at 4 bits.
        let mut of_blocks = schemes.blocks.iter();
        let kernels = of_blocks.all(|scheme| scheme.bits.count() >= 4);
        let tied = config.head == Head::Embedding;
        let Clients {
            transformers_4,
            transformers_5,
            zero_points,
        } = Clients::of(&schemes, tied);
        // PEFT needs it, and transformers 5 for zero points and embeddings; but not where it would be wrong.
        let multiplied_out = transformers_5 && (rounded.is_some() || rounded_ends.is_some());
        // The values that vLLM accepts for `--max-lora-rank`.
        let sizes = [8, 16, 32, 64, 128, 256, 320, 512];
        let rank = layout.corrections().next().map(|(_, rank)| rank);
        let lora_rank = rank.and_then(|rank| sizes.into_iter().find(|&size| size >= rank));
        let corrected = rank.is_some();
        // Without its correction a model would be served that is not the one of the figures.
        let serves =
            predicts && kernels && rounded_ends.is_none() && (!corrected || lora_rank.is_some());
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
            .render_str(TEMPLATE, context! { kept, name, table, command, base, method, dense, format, auto, predicts, factored, pairs, shared, remote_code, rounded, rounded_ends, tied, transformers_4, transformers_5, zero_points, multiplied_out, kernels, serves, corrected, lora_rank, bytes, parameters })
            .map_err(|e| Error::damaged("README.md", e.to_string()))
    }
}

/// Schemes as a list in a sentence; none where there are none.
fn in_words(schemes: &[Scheme]) -> Option<String> {
    let schemes: Vec<String> = schemes.iter().map(ToString::to_string).collect();
    (!schemes.is_empty()).then(|| schemes.join(" or "))
}

/// Which versions of transformers load rounded weights, with compressed-tensors 0.20;
/// `tests/clients/cards.py` tries what is said here.
struct Clients {
    /// Version 4.57. It gives packed zero points the shape of unpacked ones, and ties a `weight` that a
    /// rounded embedding does not have.
    transformers_4: bool,
    /// Version 5. Of two schemes it multiplies all weights out by the first; where nothing is multiplied
    /// out it fails at the embedding.
    transformers_5: bool,
    /// Whether groups have zero points.
    zero_points: bool,
}

impl Clients {
    fn of(Schemes { blocks, ends }: &Schemes, tied: bool) -> Self {
        let mut schemes = blocks.iter().chain(ends);
        let first = schemes.next();
        let zero_points = blocks.iter().chain(ends).any(|scheme| !scheme.symmetric);
        Self {
            transformers_4: !zero_points && (!tied || ends.is_empty()),
            transformers_5: schemes.all(|scheme| Some(scheme) == first),
            zero_points,
        }
    }
}
