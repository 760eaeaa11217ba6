//! Writing models: layout, weight files, journal, and the rename that publishes the directory.
//!
//! ```text
//! Layout     sizes, headers and offsets, from forms alone
//! Output     checks and locks the target
//! Writer     fills the weight files in the work directory, a step at a time
//! Published  the renamed directory, still locked
//! ```

pub mod card;
pub mod description;
pub mod durable;
pub mod front_matter;
pub mod journal;
pub mod layout;
pub mod lock;
pub mod modelling;
pub mod others;
pub mod output;
pub mod place;
pub mod schemes;
pub mod shards;
pub mod untouched;
pub mod work;
pub mod writer;
