//! ThinK: a thinner key cache by query-driven channel pruning, and what composes with it.
//!
//! ```text
//! score_i = mean over the last `window` queries of q_i²  ·  mean over all keys of k_i²
//! S       = the channels of a key head but the ⌊λ d⌋ of lowest score
//! q kᵀ    ≈ q_S k_Sᵀ
//! ```
//!
//! The score is `‖q_i k_iᵀ‖²` of channel i, up to a factor: dropping the lowest is the greedy minimum of
//! `‖Q Kᵀ − Q_S K_Sᵀ‖` over channel sets. It is taken once, behind the prompt, per layer and head of keys; query heads that share
//! keys are averaged. Keys older than the `recent` newest tokens are stored with the channels of S only, and queries are
//! sliced to them: no key is ever expanded. The newest tokens, and those that follow, stay whole.
//!
//! The same caches may round keys and values to few bits, rotate them before, give each channel of keys the bits that
//! its score is worth, drop channels of values, keep the first tokens whole, and leave others out; a [`Policy`] says which of it. It costs nothing
//! before the prompt is read, and changes no weight.
//!
//! ```
//! use compress_think::{HeadCache, LayerPolicy, channel_scores, kept_channels};
//!
//! // Two channels; no query looks at the second.
//! let (queries, keys) = ([1.0, 0.0, -1.0, 0.0], [0.5, 3.0, 2.0, -3.0, 1.0, 3.0]);
//! assert_eq!(kept_channels(&channel_scores(&queries, &keys, 2), 0.5), [0]);
//!
//! let policy = LayerPolicy { recent: 1, ..LayerPolicy::think(0.5) };
//! let mut head = HeadCache::new(2);
//! head.extend(&keys, &keys);
//! let whole = head.attention(&[1.0, 0.0]);
//! head.thin(&[&queries], &policy);
//! assert_eq!(head.attention(&[1.0, 0.0]), whole);
//! ```
//!
//! Reference: Xu et al., "ThinK: Thinner Key Cache by Query-Driven Pruning", arXiv 2407.21018, equations 4 to 6.

mod allocate;
mod channel_bits;
mod error;
mod evict;
mod form;
mod hadamard;
mod head;
mod integers;
mod old;
mod policy;
mod queries;
mod rows;
mod score;
mod tile;
mod tiles;

pub use allocate::allocate;
pub use error::{Error, Result};
pub use head::HeadCache;
pub use policy::{Format, HeadShape, LayerPolicy, Policy, Side};
pub use queries::Queries;
pub use score::{channel_scores, kept_channels};
