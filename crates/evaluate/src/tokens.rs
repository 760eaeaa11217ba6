//! The tokens of a text, one piece of it after the other: as many as are asked for, in little memory.
//!
//! ```text
//! …──────────────────────────┤            a piece
//!                     ├──────────────────────────…   the next one, which begins before that ends
//!                     ┊ ~~ │ ~~ ┊         both agree on a run of tokens, and are joined in its middle
//! ```
//!
//! What a piece's ends do to the tokens near them ends where two pieces agree: from a common boundary on,
//! pre-tokenizers split alike, and byte pair encoding whose neighbours may stand beside each other is the
//! encoding of the whole. White space and combining marks are another matter: what comes after them, however
//! far, may swallow or reorder them; so something visible must follow the joint. Where the pieces do not
//! agree, the next one begins earlier and is longer, up to the whole text, so that the tokens are those of
//! the text as one string.

use std::sync::LazyLock;

use regex::Regex;
use tokenizers::Tokenizer;

use crate::{Error, Result};

/// Tokens on which two pieces must agree to be joined, half of them on either side.
const AGREED: usize = 32;

/// A character that nothing after it changes. Were there no such expression, no pieces would be joined.
static VISIBLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[^\s\p{M}\p{C}]").ok());

/// How a text is divided.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// Bytes of a piece.
    pub piece: usize,
    /// Bytes by which the next one begins before it ends.
    pub overlap: usize,
}

impl Division {
    /// Some 100 bytes of memory for each byte of a piece, and little that is done twice.
    pub const USUAL: Self = Self {
        piece: 1 << 18,
        overlap: 1 << 12,
    };
}

/// A token of a piece: all that tells whether another piece has the same there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    id: u32,
    /// Its bytes in the text.
    start: usize,
    end: usize,
    /// Whether it is the first of what the pre-tokenizer split off.
    begins: bool,
}

/// A part of the text and its tokens.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    tokens: Vec<Token>,
}

/// The ids of a text's tokens, without special ones around them.
pub struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    text: &'a str,
    division: Division,
    piece: Piece,
    /// The piece's next token, and the one that the piece after it gives in its place.
    next: usize,
    until: usize,
    /// The piece after it, and its first token from there on.
    after: Option<(Piece, usize)>,
}

impl<'a> Tokens<'a> {
    /// Nothing is tokenised yet.
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

    /// Goes on to the next piece; false where there is none.
    fn advance(&mut self) -> Result<bool> {
        (self.piece, self.next) = match self.after.take() {
            Some(after) => after,
            None if self.piece.end == 0 && !self.text.is_empty() => {
                (self.tokenise(0, self.division.piece)?, 0)
            }
            None => return Ok(false),
        };
        if self.piece.end == self.text.len() {
            self.until = self.piece.tokens.len();
            return Ok(true);
        }
        let (after, here, there) = self.following()?;
        self.until = here;
        self.after = Some((after, there));
        Ok(true)
    }

    /// A piece that follows this one, and where they are joined: at which token of either.
    fn following(&self) -> Result<(Piece, usize, usize)> {
        let Piece { start, end, .. } = self.piece;
        let Division {
            mut piece,
            mut overlap,
        } = self.division;
        loop {
            let from = end.saturating_sub(overlap).max(start);
            let after = self.tokenise(from, end.saturating_add(piece))?;
            let rest = &self.piece.tokens[self.next..];
            if let Some((here, there)) = joint(rest, &after.tokens, |token| self.shows(token)) {
                return Ok((after, self.next + here, there));
            }
            if after.start == start && after.end == self.text.len() {
                // Too few tokens to agree on; but both begin at the same place, and so with the same ones.
                let there = self.next.min(after.tokens.len());
                return Ok((after, self.next, there));
            }
            piece = piece.saturating_mul(2);
            overlap = overlap.saturating_mul(4).max(AGREED);
        }
    }

    /// Whether a token stands for something visible.
    fn shows(&self, token: &Token) -> bool {
        let text = self.text.get(token.start..token.end);
        let visible = VISIBLE.as_ref().zip(text);
        visible.is_some_and(|(visible, text)| visible.is_match(text))
    }

    /// The tokens of a part of the text, whose ends are moved outwards to whole characters.
    fn tokenise(&self, start: usize, end: usize) -> Result<Piece> {
        let start = self.text.floor_char_boundary(start);
        let end = self.text.ceil_char_boundary(end.min(self.text.len()));
        let encoding = self.tokenizer.encode(&self.text[start..end], false);
        let encoding = encoding.map_err(|e| Error::Tokeniser {
            problem: e.to_string(),
        })?;
        let places = encoding.get_offsets().iter().zip(encoding.get_word_ids());
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

/// Where two lists of tokens, the second of which begins later in the text, may be joined: the place in
/// either of the same token, in the middle of the longest run on which they agree, before one that `shows`.
fn joint(
    first: &[Token],
    second: &[Token],
    shows: impl Fn(&Token) -> bool,
) -> Option<(usize, usize)> {
    let (mut i, mut j) = (0, 0);
    let mut longest = (0, 0, 0);
    while let (Some(a), Some(b)) = (first.get(i), second.get(j)) {
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
        (i, j) = (i + length, j + length);
    }
    let (length, i, j) = longest;
    if length < AGREED {
        return None;
    }
    // Several tokens may stand for one character: they are not parted.
    let clean = |k: &usize| first[i + k].start >= first[i + k - 1].end;
    let last = (length / 2..length).rev().find(|k| shows(&first[i + k]))?;
    let middle = (length / 2..=last.min(length - AGREED / 4)).find(clean)?;
    Some((i + middle, j + middle))
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
mod tests;
