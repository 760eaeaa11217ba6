//! The tokens of a text, computed piece by piece: as many as are asked for, in little memory.
//!
//! ```text
//! …──────────────────────────┤            a piece
//!                     ├──────────────────────────…   the next one, which begins before that ends
//!                     ┊ ~~ │ ~~ ┊         both agree on a run of tokens, and are joined in its middle
//! ```
//!
//! A cut changes tokens only near itself. From a common word boundary on, pre-tokenizers split both
//! pieces alike, and byte pair encoding works within words; so where two overlapping pieces agree
//! on a run of tokens, they can be joined. White space and combining marks are the exception: what
//! follows them, however far away, may change how they are split or ordered, so a visible character
//! must follow the joint. Where two pieces do not agree, the next one begins earlier and is longer,
//! up to the whole text. The tokens are thus those of the text as one string.
//!
//! Cost: each piece is tokenized once and the overlap twice. Memory: two pieces with their tokens.

use std::sync::LazyLock;

use regex::Regex;
use tokenizers::Tokenizer;

use crate::{Error, Result};

/// The shortest run of equal tokens at which two pieces are joined, about in its middle.
const AGREED: usize = 32;

/// A character other than white space, marks and control characters: what follows it does not
/// change how it is split. If the expression did not compile, no pieces would be joined.
static VISIBLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[^\s\p{M}\p{C}]").ok());

/// The sizes of pieces and of their overlap.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// Length of a piece in bytes.
    pub piece: usize,
    /// Bytes by which the next piece begins before the end of this one.
    pub overlap: usize,
}

impl Division {
    /// 256 KiB with an overlap of 4 KiB. The tokenizers library takes some 100 bytes of memory for
    /// each byte of text.
    pub const USUAL: Self = Self {
        piece: 1 << 18,
        overlap: 1 << 12,
    };
}

/// A token of a piece, with all that must be equal in another piece for the two to agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    id: u32,
    /// Its range of bytes in the whole text.
    start: usize,
    end: usize,
    /// Whether it is the first token of a word of the pre-tokenizer.
    begins: bool,
}

/// A range of bytes of the text, and its tokens.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    tokens: Vec<Token>,
}

/// An iterator over the token ids of a text, without special tokens around them.
pub struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    text: &'a str,
    division: Division,
    piece: Piece,
    /// The index of the piece's next token; `until` is where the next piece takes over.
    next: usize,
    until: usize,
    /// The next piece, and its first token after the joint.
    after: Option<(Piece, usize)>,
}

impl<'a> Tokens<'a> {
    /// The tokens of `text`. Nothing is tokenized before the first is asked for.
    pub fn of(tokenizer: &'a Tokenizer, text: &'a str, division: Division) -> Self {
        let nothing = Piece {
            start: 0,
            end: 0,
            tokens: Vec::new(),
        };
        Self {
            tokenizer,
            text,
            division,
            piece: nothing,
            next: 0,
            until: 0,
            after: None,
        }
    }

    /// Moves to the next piece, and finds the joint with the one after it; false at the end of the
    /// text.
    fn advance(&mut self) -> Result<bool> {
        (self.piece, self.next) = match self.after.take() {
            Some(after) => after,
            None if self.piece.end == 0 && !self.text.is_empty() => {
                (self.tokenise(0, self.division.piece)?, 0)
            }
            None => return Ok(false),
        };
        // The last piece: nothing takes over from it.
        if self.piece.end == self.text.len() {
            self.until = self.piece.tokens.len();
            return Ok(true);
        }
        let (after, here, there) = self.following()?;
        self.until = here;
        self.after = Some((after, there));
        Ok(true)
    }

    /// The piece that follows this one, and the index of the joint in either. Overlap and length
    /// grow until the two agree; in the worst case the rest of the text is tokenized at once.
    fn following(&self) -> Result<(Piece, usize, usize)> {
        let Piece { start, end, .. } = self.piece;
        let Division {
            mut piece,
            mut overlap,
        } = self.division;
        loop {
            // Not before the start of this piece: its own tokens begin there too.
            let from = end.saturating_sub(overlap).max(start);
            let after = self.tokenise(from, end.saturating_add(piece))?;
            let rest = &self.piece.tokens[self.next..];
            if let Some((here, there)) = joint(rest, &after.tokens, |token| self.shows(token)) {
                return Ok((after, self.next + here, there));
            }
            // Too short to agree on a run. Both begin at the same place, however, and so with the
            // same tokens.
            if after.start == start && after.end == self.text.len() {
                // Too few tokens to agree on; but both begin at the same place, and so with the
                // same ones.
                let there = self.next.min(after.tokens.len());
                return Ok((after, self.next, there));
            }
            // The overlap grows faster, since it is what the joint needs; at 0 it would never grow.
            piece = piece.saturating_mul(2);
            overlap = overlap.saturating_mul(4).max(AGREED);
        }
    }

    /// Whether a token has a visible character.
    fn shows(&self, token: &Token) -> bool {
        let text = self.text.get(token.start..token.end);
        let visible = VISIBLE.as_ref().zip(text);
        visible.is_some_and(|(visible, text)| visible.is_match(text))
    }

    /// The tokens of a range of bytes, extended to whole characters. Fails where the tokenizers
    /// library does.
    fn tokenise(&self, start: usize, end: usize) -> Result<Piece> {
        let start = self.text.floor_char_boundary(start);
        let end = self.text.ceil_char_boundary(end.min(self.text.len()));
        let encoding = self.tokenizer.encode(&self.text[start..end], false);
        let encoding = encoding.map_err(|e| Error::Tokeniser {
            problem: e.to_string(),
        })?;
        let places = encoding.get_offsets().iter().zip(encoding.get_word_ids());
        // The library numbers the words of the pre-tokenizer; numbers differ between pieces,
        // changes of number do not.
        let mut word = None;
        let tokens = encoding.get_ids().iter().zip(places);
        let tokens = tokens.map(|(&id, (&(from, to), &its))| Token {
            id,
            start: start + from,
            end: start + to,
            begins: word.replace(its) != Some(its),
        });
        Ok(Piece {
            start,
            end,
            tokens: tokens.collect(),
        })
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next == self.until {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let token = self.piece.tokens.get(self.next)?;
        self.next += 1;
        Some(Ok(token.id))
    }
}

/// The index in either list of the token at which they are joined; `second` begins later in the
/// text. It lies in the second half of the longest run on which they agree, before a token that
/// `shows`. None where the run is too short.
fn joint(
    first: &[Token],
    second: &[Token],
    shows: impl Fn(&Token) -> bool,
) -> Option<(usize, usize)> {
    let (mut i, mut j) = (0, 0);
    let mut longest = (0, 0, 0);
    while let (Some(a), Some(b)) = (first.get(i), second.get(j)) {
        // Both lists are in the order of the text: advance the one that is behind.
        if a != b {
            (i, j) = if a.start <= b.start {
                (i + 1, j)
            } else {
                (i, j + 1)
            };
            continue;
        }
        let pairs = first[i..].iter().zip(&second[j..]);
        let length = pairs.take_while(|(a, b)| a == b).count();
        if length > longest.0 {
            longest = (length, i, j);
        }
        // No longer run can begin within this one.
        (i, j) = (i + length, j + length);
    }
    let (length, i, j) = longest;
    if length < AGREED {
        return None;
    }
    // Several tokens may share one character (its bytes): they stay on one side.
    let clean = |k: &usize| first[i + k].start >= first[i + k - 1].end;
    let last = (length / 2..length).rev().find(|k| shows(&first[i + k]))?;
    let middle = (length / 2..=last.min(length - AGREED / 4)).find(clean)?;
    Some((i + middle, j + middle))
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
mod tests;
