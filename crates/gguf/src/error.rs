//! Why a file could not be read, and which part of it is to blame.

use crate::BlockType;

/// Errors of a file, or of what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not begin with the letters `GGUF`.
    #[error("not a gguf file: it begins with {found:02x?}")]
    NotGguf {
        /// The first four bytes.
        found: [u8; 4],
    },

    /// The version is neither 2 nor 3; a big-endian file shows up as a huge one.
    #[error("gguf version {version} is not supported (2 and 3, little endian, are)")]
    Version {
        /// The version as read in little endian.
        version: u32,
    },

    /// The file ends before something that its header announces.
    #[error("the file ends inside {what}: {needed} bytes needed at byte {at}, {left} left")]
    Truncated {
        /// The item that was being read.
        what: &'static str,
        /// Where it begins.
        at: usize,
        /// How many bytes it takes at least.
        needed: u64,
        /// How many bytes the file still has.
        left: usize,
    },

    /// A string is not UTF-8.
    #[error("{what} at byte {at} is not utf-8")]
    Text {
        /// The item that was being read.
        what: &'static str,
        /// Where the string's bytes begin.
        at: usize,
    },

    /// A boolean is neither 0 nor 1.
    #[error("the truth value at byte {at} is {byte}, neither 0 nor 1")]
    Bool {
        /// Where it lies.
        at: usize,
        /// The bytes found there.
        byte: u8,
    },

    /// A metadata value has a type that the specification does not know.
    #[error("unknown metadata type {id} before byte {at}")]
    ValueType {
        /// The type's number.
        id: u32,
        /// Where the value would begin.
        at: usize,
    },

    /// Arrays lie inside arrays deeper than any real file has them.
    #[error("arrays nested more than {limit} deep at byte {at}")]
    Nested {
        /// The greatest depth accepted.
        limit: usize,
        /// Where the innermost one begins.
        at: usize,
    },

    /// A metadata key appears twice.
    #[error("metadata key {key:?} appears twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },

    /// A tensor's name appears twice.
    #[error("tensor {tensor:?} appears twice")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },

    /// `general.alignment` is not a power of two.
    #[error("general.alignment is {alignment}, not a power of two")]
    Alignment {
        /// The alignment asked for.
        alignment: u64,
    },

    /// A tensor has no dimension, or more than four.
    #[error("tensor {tensor:?} has {dimensions} dimensions, not 1 to 4")]
    Rank {
        /// The tensor.
        tensor: String,
        /// How many dimensions it claims.
        dimensions: u32,
    },

    /// A tensor's type is one that this crate does not read.
    #[error("tensor {tensor:?} has type {kind}, which is not supported")]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// The type's name, or its number where it has none.
        kind: String,
    },

    /// A tensor is empty, too large to count, or its rows are not whole blocks.
    #[error("tensor {tensor:?} of type {kind} cannot have shape {shape:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: BlockType,
        /// Its shape, outermost dimension first.
        shape: Vec<u64>,
    },

    /// A tensor's data do not begin at a multiple of the alignment.
    #[error("tensor {tensor:?} begins at {offset}, not a multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Where it begins, from the start of the data.
        offset: u64,
        /// The file's alignment.
        alignment: usize,
    },

    /// A tensor's data reach beyond the end of the file.
    #[error("tensor {tensor:?} reaches beyond the file's {file} bytes")]
    OutOfRange {
        /// The tensor.
        tensor: String,
        /// The file's length.
        file: usize,
    },

    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins inside it.
        second: String,
    },

    /// The bytes given are not the blocks of the values asked for.
    #[error("{bytes} bytes of {kind} are not {values} values")]
    Lengths {
        /// The block format.
        kind: BlockType,
        /// How many bytes were given.
        bytes: usize,
        /// How many values were asked for.
        values: usize,
    },

    /// The metadata lack something that this use of the file needs.
    #[error("the metadata lack {key}")]
    MissingKey {
        /// The key.
        key: String,
    },

    /// A metadata value is of another type than its key calls for.
    #[error("{key} is not {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// The value that it should have.
        expected: &'static str,
    },

    /// There is no tensor of this name.
    #[error("there is no tensor {tensor:?}")]
    MissingTensor {
        /// The GGUF name asked for.
        tensor: String,
    },

    /// The model's architecture is not one that has a view as a checkpoint.
    #[error("architecture {architecture:?} is not supported ({supported} are)")]
    Architecture {
        /// The file's `general.architecture`.
        architecture: String,
        /// The supported ones.
        supported: String,
    },

    /// The model uses something that its configuration could not say exactly.
    #[error("not supported: {feature}")]
    Unsupported {
        /// The feature it uses, and the key that says so.
        feature: String,
    },

    /// Rows cannot be divided among the heads in pairs.
    #[error("{values} values in rows of {cols} are not {heads} heads of an even number of rows")]
    Heads {
        /// How many heads the rows should belong to.
        heads: usize,
        /// How many values there are.
        values: usize,
        /// How many of them are one row.
        cols: usize,
    },

    /// The tokenizer's model or pre-tokenizer is not one that this crate can rebuild.
    #[error("{key} {name:?} is not known ({known} are)")]
    UnknownTokenizer {
        /// The metadata key.
        key: &'static str,
        /// The value that it has.
        name: String,
        /// The values that are known.
        known: String,
    },

    /// A list does not have one entry for each token, or an id is not that of a token.
    #[error("{key} does not fit a vocabulary of {tokens} tokens")]
    Vocabulary {
        /// The metadata key.
        key: &'static str,
        /// How many tokens there are.
        tokens: usize,
    },

    /// A merge rule is not two tokens with a space between them that together are a third.
    #[error("merge {merge:?} is not two tokens that make a third")]
    Merge {
        /// The rule.
        merge: String,
    },

    /// The tokenizers library refused what the metadata describe.
    #[error("the tokenizer cannot be built: {reason}")]
    Tokenizer {
        /// In its words.
        reason: String,
    },
}
