//! The options that say what models are scored on.

use std::path::PathBuf;

use clap::Args;
use compress_models::Mixtures;

use super::whole_number;
use crate::job;

/// What is scored, and where.
#[derive(Clone, Debug, Args)]
pub struct Text {
    /// The text to score; the sample that ships with this program where left out.
    #[arg(long = "text", value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Tokens per window [default: the model's context, at most 1024].
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,

    /// How many windows (or documents) to score, or `all` [default: 64, or all there are if fewer].
    #[arg(long, value_name = "N")]
    pub windows: Option<WindowCount>,

    /// Lead each window with a BOS token.
    #[arg(long)]
    pub bos: bool,

    /// Score each document by itself, led by BOS and cut at the context; the text between them.
    #[arg(long, value_name = "SEPARATOR")]
    pub documents: Option<String>,

    /// Take the first N tokens of each window for a prompt, and score those after it given what the key-value cache holds
    /// of it: the figure that a cache policy changes. The first token behind the prompt is not scored
    /// [default: none; half of the window for a model that has a cache policy].
    #[arg(long, value_name = "N", value_parser = split)]
    pub split: Option<usize>,

    #[command(flatten)]
    pub sharing: Sharing,
}

/// How mixtures are held in memory.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sharing {
    /// Keep atoms that layers share (masa) in memory once, and mix them at every product. Less memory and more time: with
    /// two atoms for attention of stories15m, weights take 57.4 MB for 60.8, and scoring 1.08 times as long. Without
    /// this, a matrix for each layer is mixed when the model is loaded, as it always is block by block.
    #[arg(long)]
    share_memory: bool,
}

impl Sharing {
    /// What becomes of mixtures.
    pub const fn mixtures(self) -> Mixtures {
        if self.share_memory {
            Mixtures::Shared
        } else {
            Mixtures::MultipliedOut
        }
    }
}

fn split(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=job::LONGEST)
}

/// A number, or all.
#[derive(Clone, Copy, Debug)]
pub enum WindowCount {
    Exactly(usize),
    All,
}

impl std::str::FromStr for WindowCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count)) if count > 0 => Ok(Self::Exactly(count)),
            _ => Err("a number above 0, or `all`".into()),
        }
    }
}

impl Text {
    /// What is to be scored.
    pub fn job(&self) -> job::Text {
        job::Text {
            file: self.file.clone(),
            context: self.ctx,
            windows: self.windows.map(|count| match count {
                WindowCount::Exactly(count) => count,
                WindowCount::All => usize::MAX,
            }),
            bos: self.bos,
            documents: self.documents.clone(),
            split: self.split,
            mixtures: self.sharing.mixtures(),
        }
    }
}
