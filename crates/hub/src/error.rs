//! Why a model cannot be had.

use std::io;
use std::path::PathBuf;

/// One variant per cause; each says which model, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is not `org/name`, `org/name@revision` or `org/name:file.gguf`.
    #[error("`{text}` is not a model on the hub (org/name or org/name@revision): {reason}")]
    BadId {
        /// The text.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// Nothing says where the cache is.
    #[error("no directory to keep models in: set HF_HOME, or HOME")]
    NoCache,

    /// The cache lacks the model, and the hub must not be asked.
    #[error(
        "{id} is not complete in {}, and HF_HUB_OFFLINE forbids to download it: unset that, or give a local directory",
        cache.display()
    )]
    Offline {
        /// The model.
        id: String,
        /// Where it was looked for.
        cache: PathBuf,
    },

    /// The cache lacks the model, and the hub does not answer.
    #[error(
        "{id} is not complete in {}, and {endpoint} cannot be reached: {reason}; \
         set HF_ENDPOINT to a mirror, or give a local directory",
        cache.display()
    )]
    Unreachable {
        /// The model.
        id: String,
        /// The hub that was asked.
        endpoint: String,
        /// Where the model was looked for.
        cache: PathBuf,
        /// Why there was no answer.
        reason: String,
    },

    /// The hub answers 401 or 403.
    #[error(
        "{endpoint} refuses {id} ({status}): it is private or gated, or there is no such model; \
         ask for access at {endpoint}/{id}, and {}",
        if *token_sent { "use a token that has it (HF_TOKEN was sent)" } else { "set HF_TOKEN (none was sent)" }
    )]
    Refused {
        /// The model.
        id: String,
        /// The hub that was asked.
        endpoint: String,
        /// Its answer.
        status: u16,
        /// Whether a token was sent.
        token_sent: bool,
    },

    /// The hub answers 404.
    #[error("{endpoint} has no model {id}: check the spelling, and the revision if one was given")]
    NotFound {
        /// The model.
        id: String,
        /// The hub that was asked.
        endpoint: String,
    },

    /// The hub answers with another failure, such as 429 or 503.
    #[error("{url} answers {status}: try again later, or set HF_ENDPOINT to a mirror")]
    Failed {
        /// The request.
        url: String,
        /// The answer.
        status: u16,
    },

    /// An answer that is not what a hub answers.
    #[error("{url} does not answer as a hub does: {problem}; is HF_ENDPOINT right?")]
    BadAnswer {
        /// The request.
        url: String,
        /// The fault of the answer.
        problem: String,
    },

    /// A file in the hub's list that would be written outside the model's folder.
    #[error(
        "{id} holds a file named `{name}`, which would lie outside its folder: nothing was downloaded"
    )]
    UnsafeName {
        /// The model.
        id: String,
        /// The name.
        name: String,
    },

    /// A model without safetensors, but with GGUF files.
    #[error("{id} has no safetensors; name one of its GGUF files, as in {id}:FILE: {}", files.join(", "))]
    OnlyGguf {
        /// The model.
        id: String,
        /// The GGUF files.
        files: Vec<String>,
    },

    /// A model whose weights are in a format that is not read.
    #[error("{id} has no safetensors, only {}: save it with `safe_serialization=True` first", files.join(", "))]
    OnlyPickle {
        /// The model.
        id: String,
        /// The weight files that it has.
        files: Vec<String>,
    },

    /// A model without weights where they belong.
    #[error("{id} has no model.safetensors and no model.safetensors.index.json")]
    NoWeights {
        /// The model.
        id: String,
    },

    /// A GGUF file that the model does not have.
    #[error("{id}: there is no such file; the model's GGUF files are: {}", files.join(", "))]
    NoSuchFile {
        /// The model and the file.
        id: String,
        /// The GGUF files that it has.
        files: Vec<String>,
    },

    /// A model that lacks a file on the hub itself.
    #[error("{id} is not complete on the hub: it lacks {missing}")]
    Incomplete {
        /// The model.
        id: String,
        /// The first file that it lacks.
        missing: String,
    },

    /// A download that broke off.
    #[error(
        "the download of {file} broke off: {reason}; what has arrived is kept, so run the command again"
    )]
    Interrupted {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },

    /// A download that is not the file which the hub announced; it was deleted.
    #[error("{file} arrived damaged: {problem}; it was deleted, so run the command again")]
    Damaged {
        /// The file.
        file: String,
        /// The property that differs.
        problem: String,
    },

    /// The cache cannot be written or read.
    #[error("{}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on what the file system answers about `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }
}
