//! How a text is cut into the windows that are scored.

use std::fmt;

use serde::Serialize;
use tokenizers::Tokenizer;

use crate::{Error, Result};

/// The conditions under which a figure is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Tokens of a window, a leading BOS included.
    pub context: usize,
    /// How many windows (or documents); all where absent.
    pub windows: Option<usize>,
    /// Whether a BOS token leads each window.
    pub bos: bool,
    /// What separates documents: each is then a window of its own, led by BOS, cut at the context.
    pub documents: Option<String>,
}

impl Protocol {
    /// The windows of a text, which is tokenised once and without special tokens. In each window all
    /// tokens but the first are scored.
    ///
    /// Without documents, windows follow each other without overlap from the start of the text, and
    /// what is left at its end is dropped.
    pub fn cut(
        &self,
        text: &str,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        let problem = |problem: &str| Error::Protocol {
            problem: problem.into(),
        };
        if self.context < 2 {
            return Err(problem(
                "a window needs at least 2 tokens: one to start from, one to score",
            ));
        }
        if self.windows == Some(0) {
            return Err(problem("no windows, nothing to score"));
        }
        if self.documents.as_deref() == Some("") {
            return Err(problem("a separator of documents cannot be empty"));
        }
        let bos = match (self.bos || self.documents.is_some(), bos) {
            (false, _) => None,
            (true, Some(bos)) => Some(bos),
            (true, None) => {
                return Err(problem("the model has no BOS token to lead a window with"));
            }
        };
        match &self.documents {
            Some(separator) => self.cut_documents(text, separator, tokenizer, bos),
            None => self.cut_windows(&tokens(tokenizer, text)?, bos),
        }
    }

    fn cut_windows(&self, tokens: &[u32], bos: Option<u32>) -> Result<Vec<Vec<u32>>> {
        let size = self.context - usize::from(bos.is_some());
        let available = tokens.len() / size;
        let wanted = self.windows.unwrap_or(available.max(1));
        if wanted > available {
            let wanted = format!("{wanted} windows of {size}");
            return Err(Error::TooShort {
                found: tokens.len(),
                wanted,
            });
        }
        let lead = bos.as_slice();
        Ok(tokens
            .chunks_exact(size)
            .take(wanted)
            .map(|window| [lead, window].concat())
            .collect())
    }

    fn cut_documents(
        &self,
        text: &str,
        separator: &str,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        let documents = text
            .split(separator)
            .map(str::trim)
            .filter(|document| !document.is_empty());
        let windows = documents
            .take(self.windows.unwrap_or(usize::MAX))
            .map(|document| {
                let mut window = [bos.as_slice(), &tokens(tokenizer, document)?].concat();
                window.truncate(self.context);
                Ok(window)
            });
        let mut windows = windows.collect::<Result<Vec<_>>>()?;
        windows.retain(|window| window.len() > 1); // a lone BOS predicts nothing
        let wanted = self.windows.unwrap_or(1);
        if windows.len() < wanted {
            let found = windows.iter().map(Vec::len).sum();
            return Err(Error::TooShort {
                found,
                wanted: format!("{wanted} documents"),
            });
        }
        Ok(windows)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.documents.is_some() {
            "documents"
        } else {
            "windows"
        };
        match self.windows {
            Some(count) => write!(f, "{count} {unit}")?,
            None => write!(f, "all {unit}")?,
        }
        let bos = if self.bos || self.documents.is_some() {
            "BOS first"
        } else {
            "no BOS"
        };
        write!(f, ", ctx {}, {bos}", self.context)
    }
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|e| Error::Tokeniser {
            problem: e.to_string(),
        })?;
    Ok(encoding.get_ids().to_vec())
}
