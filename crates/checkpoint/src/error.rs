//! Errors of reading and writing models.

use std::{io, path::PathBuf};

use compress_core::Site;

/// The result of reading and writing models.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per cause; each names the file, and the tensor or field where there is one. What the
/// system or another crate said is their `source`, and not in their own message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be opened, read or written.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// A path that holds no model.
    #[error("{}: {problem}", path.display())]
    NoModel {
        /// Which.
        path: PathBuf,
        /// The thing that was expected there.
        problem: String,
    },

    /// A file that is not what its name says.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The problem with it.
        problem: String,
    },

    /// A field of `config.json` that is missing or makes no sense.
    #[error("{}: `{field}` {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// The problem with it.
        problem: String,
    },

    /// A network that is not one of ours.
    #[error("{}: the architecture `{found}` is not supported; supported are {}", path.display(), crate::Architecture::names())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// The value that it has.
        found: String,
    },

    /// A tensor that the network needs and the file lacks.
    #[error("{}: there is no tensor `{name}`", path.display())]
    MissingTensor {
        /// The model.
        path: PathBuf,
        /// The tensor.
        name: String,
    },

    /// A tensor of another shape than the config says.
    #[error("{}: tensor `{name}` is {found:?}, but config.json asks for {expected:?}", path.display())]
    Shape {
        /// The model.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape the config implies.
        expected: Vec<usize>,
    },

    /// A tensor whose numbers are of a type that is not read there.
    #[error("{}: tensor `{name}` holds {found}; only {wanted} is read there", path.display())]
    NumberType {
        /// The model.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// The types that would have been read.
        wanted: &'static str,
    },

    /// A tokenizer that cannot be read, or that there is none of.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },

    /// An output that is in the way, or in the wrong place.
    #[error("{}: {problem}", path.display())]
    Output {
        /// Which.
        path: PathBuf,
        /// The problem, and what to do about it.
        problem: String,
    },

    /// A work directory left by a run of something else.
    #[error("{}: left by a run with another model, plan or option; delete it, or repeat that run to go on with it", path.display())]
    OtherWork {
        /// The work directory.
        path: PathBuf,
    },

    /// A GGUF file that cannot be read.
    #[error("{}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<compress_gguf::Error>,
    },

    /// Rounded weights of two kinds.
    #[error(
        "{site} is rounded or corrected otherwise than {other}, but a model has one number of bits, one group size and one rank of corrections"
    )]
    Mixed {
        /// One of them.
        site: Site,
        /// Another.
        other: Site,
    },

    /// Something about a weight.
    #[error(transparent)]
    Core(#[from] compress_core::Error),

    /// Linear algebra, or packed integers.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.into(),
        }
    }
}
