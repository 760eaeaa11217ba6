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
    /// A file that cannot be opened, read or written: missing, no permission, disk full.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// A path at which there is no model: nothing at all, or a folder without safetensors.
    #[error("{}: {problem}", path.display())]
    NoModel {
        /// Which.
        path: PathBuf,
        /// The problem: the files that were expected and are not there.
        problem: String,
    },

    /// A file whose contents contradict its format or another file: a bad header, a shard that the
    /// index does not match, a tensor that the config does not allow, a number that is not finite.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The contradiction, with the tensor or field where there is one.
        problem: String,
    },

    /// A field of `config.json` that is missing, out of range or of the wrong type.
    #[error("{}: `{field}` {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// The value found, and the values that are supported.
        problem: String,
    },

    /// A `model_type` that is not in [`Architecture::ALL`](crate::Architecture::ALL).
    #[error("{}: the architecture `{found}` is not supported; supported are {}", path.display(), crate::Architecture::names())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// The `model_type` of the file.
        found: String,
    },

    /// A model without an output head, which cannot be asked for the next token.
    #[error("{}: a {class} has no output head, and so no perplexity and no gradients: it can be cut under --no-evaluate, by methods that need none", path.display())]
    NoHead {
        /// Its `config.json`.
        path: PathBuf,
        /// The class that it names.
        class: String,
    },

    /// A form of weights in which no client would load a model of its class.
    #[error("a {class} cannot have {what}")]
    Class {
        /// The class that its config names.
        class: String,
        /// The form, why, and what to do.
        what: &'static str,
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

    /// A tensor with a dtype that the reader does not take at this place, such as integers for a
    /// norm.
    #[error("{}: tensor `{name}` holds {found}; only {wanted} is read there", path.display())]
    NumberType {
        /// The model.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// The dtypes that are read there.
        wanted: &'static str,
    },

    /// A tokenizer that is missing or that the tokenizers library refuses.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The problem, in the words of the tokenizers library where it refused the file.
        problem: String,
    },

    /// An output path that cannot be used: it exists, another run holds its lock, or it would
    /// overwrite an input.
    #[error("{}: {problem}", path.display())]
    Output {
        /// Which.
        path: PathBuf,
        /// The problem, and the way out of it.
        problem: String,
    },

    /// A work directory of another task: resuming it would mix two models, so it is neither used
    /// nor deleted.
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

    /// Two sites whose corrections have different ranks, which one adapter cannot express.
    #[error(
        "the correction of {site} has another rank than that of {other}, but a model has one rank of corrections"
    )]
    Mixed {
        /// The site that differs.
        site: Site,
        /// The first corrected site, with which it was compared.
        other: Site,
    },

    /// An error about a site or a factor: a form that does not fit the shape, a site that is not
    /// there.
    #[error(transparent)]
    Core(#[from] compress_core::Error),

    /// A matrix of the wrong size, or packed integers that cannot be unpacked.
    #[error(transparent)]
    Numerics(#[from] compress_numerics::Error),
}

impl Error {
    /// Wraps an I/O error with the path that it is about, for `map_err`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The error of a tensor with a number that is none: whatever computes with it would spread it.
    pub(crate) fn not_finite(path: &std::path::Path, name: &str) -> Self {
        let problem = format!("tensor `{name}` holds NaN or infinity; the model is damaged");
        Self::damaged(path, problem)
    }

    /// Shorthand for the most frequent error of a reader.
    pub(crate) fn damaged(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.into(),
        }
    }
}
