//! Measures of a model: perplexity, divergence from the original, latency.
//!
//! ```text
//! perplexity = exp( −1/N Σ log p(token | tokens before it in its window) )
//! KL         = Σ_v p(v) · (log p(v) − log q(v)),  p of the original, q of the other model
//! ```
//!
//! A figure means something only with the [`Protocol`] under which it was taken: which text, how it
//! was cut into windows, whether a BOS token led each of them. A logit that is not finite is an
//! error; nothing is ever skipped.
//!
//! ```no_run
//! # use compress_checkpoint::Checkpoint;
//! # use compress_models::{Decoder, Device};
//! use compress_evaluate::{Protocol, perplexity};
//!
//! let checkpoint = Checkpoint::open("stories15m".as_ref())?;
//! let decoder = Decoder::load(&checkpoint, &Device::flex())?;
//! let protocol = Protocol { context: 256, windows: Some(64), bos: false, documents: None };
//! let text = std::fs::read_to_string("valid.txt")?;
//! let windows = protocol.cut(&text, &checkpoint.tokenizer()?, checkpoint.config().bos)?;
//! println!("{:.4}", perplexity(&decoder, &windows, &|_| ())?.perplexity);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod cached;
mod divergence;
mod error;
mod footprint;
mod latency;
mod logits;
mod needle;
mod parallel;
mod pass;
mod perplexity;
mod protocol;
mod reference;
mod tokens;

pub use cached::cache_of;
pub use divergence::{Comparison, Divergence, Scored};
pub use error::{Error, Result};
pub use footprint::{CORE, Outline, ScoringFootprint};
pub use latency::{Latency, latency};
pub use needle::{Needles, needles};
pub use pass::{Pass, Source};
pub use perplexity::{Perplexity, perplexity};
pub use protocol::Protocol;
pub use reference::Reference;
