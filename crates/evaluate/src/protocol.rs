//! How a text is cut into the windows that are scored.

use std::fmt;

use serde::Serialize;
use tokenizers::Tokenizer;

use crate::{
    Error, Result,
    tokens::{Division, Tokens},
};

/// The conditions under which a figure is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Tokens of a window, a leading BOS included.
    pub context: usize,
    /// How many windows (or documents); all where absent.
    pub windows: Option<usize>,
    /// Whether a BOS token leads each window.
    pub bos: bool,
    /// The text between documents: each is then a window of its own, led by BOS, cut at the context.
    pub documents: Option<String>,
}

impl Protocol {
    /// The windows of a text, without special tokens but BOS. In each window all tokens but the first are
    /// scored. No more of the text is tokenised than they take.
    ///
    /// Without documents, windows follow each other without overlap from the start of the text, and
    /// what is left at its end is dropped.
    pub fn cut(
        &self,
        text: &str,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        self.cut_at_most(usize::MAX, text, tokenizer, bos)
    }

    /// The same, but no more than so many where the protocol wants all.
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

    /// The token that leads windows, if any does; an error where the protocol cannot be followed.
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
        match (self.bos || self.documents.is_some(), bos) {
            (false, _) => Ok(None),
            (true, Some(bos)) => Ok(Some(bos)),
            (true, None) => Err(problem("the model has no BOS token to lead a window with")),
        }
    }

    fn cut_windows(
        &self,
        tokens: impl Iterator<Item = Result<u32>>,
        most: usize,
        bos: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        let size = self.context - usize::from(bos.is_some());
        let (mut windows, mut window, mut found) = (Vec::new(), Vec::new(), 0);
        for token in tokens.take(most.saturating_mul(size)) {
            window.push(token?);
            found += 1;
            if window.len() == size {
                windows.push([bos.as_slice(), &window].concat());
                window.clear();
            }
        }
        let wanted = self.windows.unwrap_or(1);
        if windows.len() < wanted {
            let wanted = format!("{wanted} windows of {size}");
            return Err(Error::TooShort { found, wanted });
        }
        Ok(windows)
    }

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
