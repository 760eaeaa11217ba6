//! Errors of reading a file; each names the tensor, key or offset that is at fault.

use crate::BlockType;

/// An error in a file, or in a request that the file cannot meet. All are values: no input makes
/// this crate panic.
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
        /// The field that was being read.
        what: &'static str,
        /// The offset at which the field begins, in bytes.
        at: usize,
        /// The fewest bytes that it takes.
        needed: u64,
        /// The bytes left in the file.
        left: usize,
    },

    /// A string is not UTF-8.
    #[error("{what} at byte {at} is not utf-8")]
    Text {
        /// The field that was being read.
        what: &'static str,
        /// The offset of the string's bytes.
        at: usize,
    },

    /// A boolean is neither 0 nor 1.
    #[error("the truth value at byte {at} is {byte}, neither 0 nor 1")]
    Bool {
        /// The offset of the byte.
        at: usize,
        /// The value of the byte.
        byte: u8,
    },

    /// A metadata value has a type that the specification does not know.
    #[error("unknown metadata type {id} before byte {at}")]
    ValueType {
        /// The type's number.
        id: u32,
        /// The offset at which the value would begin.
        at: usize,
    },

    /// Arrays lie inside arrays deeper than any real file has them.
    #[error("arrays nested more than {limit} deep at byte {at}")]
    Nested {
        /// The largest depth that is accepted.
        limit: usize,
        /// The offset of the innermost array.
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
        /// The value of the key.
        alignment: u64,
    },

    /// A tensor has no dimension, or more than four.
    #[error("tensor {tensor:?} has {dimensions} dimensions, not 1 to 4")]
    Rank {
        /// The tensor.
        tensor: String,
        /// The number of dimensions in its entry.
        dimensions: u32,
    },

    /// A tensor's type is one that this crate does not read.
    #[error("tensor {tensor:?} has type {kind}, which is not supported")]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// The name of the type, or its number where ggml has no such type.
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
        /// Its offset from the start of the data, in bytes.
        offset: u64,
        /// The alignment of the file, in bytes.
        alignment: usize,
    },

    /// A tensor's data reach beyond the end of the file.
    #[error("tensor {tensor:?} reaches beyond the file's {file} bytes")]
    OutOfRange {
        /// The tensor.
        tensor: String,
        /// The length of the file, in bytes.
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

    /// A file is not the part of a split model that it should be.
    #[error("part {part} of a split model, counted from 0: {problem}")]
    Part {
        /// The part, from 0 on.
        part: usize,
        /// What is wrong with it.
        problem: String,
    },

    /// The bytes given to the decoder are not the blocks of as many values as were asked for.
    #[error("{bytes} bytes of {kind} are not {values} values")]
    Lengths {
        /// The block format.
        kind: BlockType,
        /// The number of bytes given.
        bytes: usize,
        /// The number of values asked for.
        values: usize,
    },

    /// The metadata lack a key that this use of the file needs.
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
        /// The type or range that the key calls for.
        expected: &'static str,
    },

    /// There is no tensor of this name.
    #[error("there is no tensor {tensor:?}")]
    MissingTensor {
        /// The GGUF name asked for.
        tensor: String,
    },

    /// The model has an architecture without a Hugging Face counterpart here.
    #[error("architecture {architecture:?} is not supported ({supported} are)")]
    Architecture {
        /// The file's `general.architecture`.
        architecture: String,
        /// The supported architectures.
        supported: String,
    },

    /// The model has a feature that the config would not express, so that the checkpoint would
    /// compute something else.
    #[error("not supported: {feature}")]
    Unsupported {
        /// The feature, and the key or tensor that shows it.
        feature: String,
    },

    /// Rows that cannot be divided among heads with an even number of rows each.
    #[error("{values} values in rows of {cols} are not {heads} heads of an even number of rows")]
    Heads {
        /// The number of heads.
        heads: usize,
        /// The number of values.
        values: usize,
        /// The number of values in a row.
        cols: usize,
    },

    /// The kind of tokenizer or the pre-tokenizer is not one that can be rebuilt. There is no
    /// fallback, since it would give other tokens.
    #[error("{key} {name:?} is not known ({known} are)")]
    UnknownTokenizer {
        /// The metadata key.
        key: &'static str,
        /// The value of the key.
        name: String,
        /// The values that are supported.
        known: String,
    },

    /// A list does not have one entry for each token, or an id is not that of a token.
    #[error("{key} does not fit a vocabulary of {tokens} tokens")]
    Vocabulary {
        /// The metadata key.
        key: &'static str,
        /// The number of tokens.
        tokens: usize,
    },

    /// A merge rule is not two tokens with a space between them whose concatenation is a third.
    #[error("merge {merge:?} is not two tokens that make a third")]
    Merge {
        /// The rule.
        merge: String,
    },

    /// The tokenizers library refused what the metadata describe.
    #[error("the tokenizer cannot be built: {reason}")]
    Tokenizer {
        /// The reason, in the library's words.
        reason: String,
    },
}
