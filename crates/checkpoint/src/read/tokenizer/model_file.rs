//! The fields of a `SentencePiece` model that decide about tokens, as the file has them.

use super::protobuf::{Fields, Value};

/// The algorithm that splits a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The pieces of the greatest likelihood together.
    Unigram,
    /// Merging in the order of scores.
    Bpe,
    /// Whole words or characters.
    Other,
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'b> {
    /// Its text, with `▁` for spaces.
    pub text: &'b str,
    /// The score, which orders merges or is a log-likelihood.
    pub score: f32,
    /// The number of its type.
    pub kind: u64,
}

impl Piece<'_> {
    /// The type of tokens that are no text, such as BOS.
    pub const CONTROL: u64 = 3;
    /// The type of words that are never split.
    pub const USER_DEFINED: u64 = 4;
}

/// A model; what a file leaves out has the default of the format.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the file has these switches, independent of each other"
)]
pub struct ModelFile<'b> {
    /// The tokens in the order of their ids.
    pub pieces: Vec<Piece<'b>>,
    /// How texts are split.
    pub algorithm: Algorithm,
    /// The text of the unknown token.
    pub unknown: &'b str,
    /// Whether a space is a suffix of words, not a prefix.
    pub suffix: bool,
    /// The name of the rule that texts are normalized by.
    pub rule: &'b str,
    /// Whether that rule changes anything.
    pub normalizes: bool,
    /// Whether a space is put before a text.
    pub prefix: bool,
    /// Whether spaces in a row become one, and those at the ends none.
    pub strips: bool,
    /// Whether spaces become `▁`.
    pub escapes: bool,
}

impl<'b> ModelFile<'b> {
    /// Reads a model; fails, in words, where the bytes are none.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, &'static str> {
        let mut model = Self {
            pieces: Vec::new(),
            algorithm: Algorithm::Unigram,
            unknown: "<unk>",
            suffix: false,
            rule: "",
            normalizes: false,
            prefix: true,
            strips: true,
            escapes: true,
        };
        for field in Fields::of(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => model.pieces.push(piece(bytes)?),
                (2, Value::Bytes(bytes)) => model.trainer(bytes)?,
                (3, Value::Bytes(bytes)) => model.normalizer(bytes)?,
                // Texts to test by and how to undo normalization.
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err("it has no tokens");
        }
        Ok(model)
    }

    /// The settings of its training, most of which no longer matter.
    fn trainer(&mut self, bytes: &'b [u8]) -> Result<(), &'static str> {
        for field in Fields::of(bytes) {
            match field? {
                (3, Value::Varint(1)) => self.algorithm = Algorithm::Unigram,
                (3, Value::Varint(2)) => self.algorithm = Algorithm::Bpe,
                (3, Value::Varint(_)) => self.algorithm = Algorithm::Other,
                (24, Value::Varint(suffix)) => self.suffix = suffix != 0,
                (45, Value::Bytes(bytes)) => self.unknown = text(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, bytes: &'b [u8]) -> Result<(), &'static str> {
        for field in Fields::of(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => self.rule = text(bytes)?,
                (2, Value::Bytes(bytes)) => self.normalizes = !bytes.is_empty(),
                (3, Value::Varint(prefix)) => self.prefix = prefix != 0,
                (4, Value::Varint(strips)) => self.strips = strips != 0,
                (5, Value::Varint(escapes)) => self.escapes = escapes != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

fn piece(bytes: &[u8]) -> Result<Piece<'_>, &'static str> {
    let mut piece = Piece {
        text: "",
        score: 0.0,
        kind: 1,
    };
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => piece.text = text(bytes)?,
            (2, Value::Fixed32(bytes)) => piece.score = f32::from_le_bytes(bytes),
            (3, Value::Varint(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    // Scores order merges; NaN has no place in an order.
    if !piece.score.is_finite() {
        return Err("a score is not finite");
    }
    if piece.text.is_empty() {
        return Err("a token is empty");
    }
    Ok(piece)
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
}
