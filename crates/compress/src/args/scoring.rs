//! The options that say what models are scored on.

use std::path::PathBuf;

use clap::Args;
use compress_models::DeviceChoice;

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

    /// Read only the first N tokens of each window at once, and the others one by one through the key-value
    /// cache, as in generating: slow, and the same figure, unless something is done to what the cache holds, or rotary
    /// embeddings depend on the length of the text (dynamic scaling).
    #[arg(long, value_name = "N", value_parser = prompt)]
    pub prompt: Option<usize>,

    /// Where to run: auto (a real GPU if one answers, else the CPU), cpu, or wgpu.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

fn prompt(text: &str) -> Result<usize, String> {
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
    /// What is to be scored, and where.
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
            prompt: self.prompt,
            device: self.device,
        }
    }
}
