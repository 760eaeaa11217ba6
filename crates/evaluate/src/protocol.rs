//! The protocol of an evaluation: how a text is cut into the windows that are scored.
//!
//! ```text
//! windows      consecutive runs of `context` tokens, stride = context (no overlap)
//! documents    one window per document, truncated to `context` tokens
//! ```
//!
//! Without overlap the first tokens of a window have little before them, so a perplexity depends on
//! `context` and on BOS, and compares only under the same protocol.

use std::fmt;

use serde::Serialize;
use tokenizers::Tokenizer;

use crate::{
    Error, Result,
    tokens::{Division, Tokens},
};

/// The conditions of a figure, recorded with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Length of a window in tokens, a leading BOS included; at least 2.
    pub context: usize,
    /// The number of windows (or documents); none for all.
    pub windows: Option<usize>,
    /// Whether a BOS token is put before each window.
    pub bos: bool,
    /// The separator of documents. Each is then a window of its own with BOS before it, truncated
    /// to the context; none for one running text.
    pub documents: Option<String>,
}

impl Protocol {
    /// The windows of a text as token ids, without special tokens other than BOS. In each window
    /// all tokens but the first are scored.
    ///
    /// Windows follow each other without overlap; an incomplete one at the end of the text is
    /// dropped. Only as much of the text is tokenized as they take. Fails where the text is too
    /// short, the protocol is contradictory, or BOS is wanted and the model has none.
    pub fn cut(
        &self,
        text: &str,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        self.cut_at_most(usize::MAX, text, tokenizer, bos)
    }

    /// As [`cut`](Self::cut), with a limit of `most` windows where the protocol wants all.
    pub fn cut_at_most(
        &self,
        most: usize,
        text: &str,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        let bos = self.lead(bos)?;
        let most = self.windows.unwrap_or(most);
        match &self.documents {
            Some(separator) => {
                let documents = text.split(separator).map(str::trim);
                self.cut_documents(documents, most, tokenizer, bos)
            }
            None => self.cut_windows(Tokens::of(tokenizer, text, Division::USUAL), most, bos),
        }
    }

    /// The token to put before windows, if any. Fails where the protocol cannot be followed.
    fn lead(&self, bos: Option<u32>) -> Result<Option<u32>> {
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
        // A document starts where a text starts, which models mark by BOS.
        match (self.bos || self.documents.is_some(), bos) {
            (false, _) => Ok(None),
            (true, Some(bos)) => Ok(Some(bos)),
            (true, None) => Err(problem("the model has no BOS token to lead a window with")),
        }
    }

    /// Windows of a running text. BOS takes one place of the context.
    fn cut_windows(
        &self,
        tokens: impl Iterator<Item = Result<u32>>,
        most: usize,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        let size = self.context - usize::from(bos.is_some());
        let (mut windows, mut window, mut found) = (Vec::new(), Vec::new(), 0);
        // The iterator is lazy: a long text is tokenized only as far as the windows go.
        for token in tokens.take(most.saturating_mul(size)) {
            window.push(token?);
            found += 1;
            if window.len() == size {
                windows.push([bos.as_slice(), &window].concat());
                window.clear();
            }
        }
        // With all windows asked for, one is enough.
        let wanted = self.windows.unwrap_or(1);
        if windows.len() < wanted {
            let wanted = format!("{wanted} windows of {size}");
            return Err(Error::TooShort { found, wanted });
        }
        Ok(windows)
    }

    /// One window per document. Empty documents do not count towards the limit.
    fn cut_documents<'a>(
        &self,
        documents: impl Iterator<Item = &'a str>,
        most: usize,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        let documents = documents.filter(|document| !document.is_empty());
        let windows = documents.take(most).map(|document| {
            let tokens = Tokens::of(tokenizer, document, Division::USUAL);
            // BOS first; a document longer than the context loses its end.
            let window = bos.into_iter().map(Ok).chain(tokens);
            window.take(self.context).collect::<Result<Vec<_>>>()
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

/// The protocol in one line, for tables.
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
