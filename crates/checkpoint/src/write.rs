//! Writing models: layout, weight files, journal, and the directory that gets its name at the end.

pub mod card;
pub mod description;
pub mod durable;
pub mod journal;
pub mod layout;
pub mod lock;
pub mod modelling;
pub mod output;
pub mod shards;
pub mod untouched;
pub mod work;
pub mod writer;
