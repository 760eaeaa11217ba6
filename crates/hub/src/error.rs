//! Errors of resolving a model; each message says what to do about it.

use std::io;
use std::path::PathBuf;

/// One variant per cause, which names the model or file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is not of the form `org/name`, `org/name@revision` or `org/name:file.gguf`.
    #[error("`{text}` is not a model on the hub (org/name or org/name@revision): {reason}")]
    BadId {
        /// The text.
        text: String,
        /// The rule that it breaks.
        reason: &'static str,
    },

    /// No variable and no home directory determines the cache.
    #[error("no directory to keep models in: set HF_HOME, or HOME")]
    NoCache,

    /// The copy in the cache is not complete, and offline mode forbids a download.
    #[error(
        "{id} is not complete in {}, and HF_HUB_OFFLINE forbids to download it: unset that, or give a local directory",
        cache.display()
    )]
    Offline {
        /// The model.
        id: String,
        /// The cache that was searched.
        cache: PathBuf,
    },

    /// The copy in the cache is not complete, and the hub does not answer: no network, a proxy, a
    /// certificate.
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
        /// The cache that was searched.
        cache: PathBuf,
        /// The failure, in the words of the HTTP client.
        reason: String,
    },

    /// The hub answers 401 or 403: a private or gated model, or one that does not exist.
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
        /// The status code.
        status: u16,
        /// Whether a token was sent.
        token_sent: bool,
    },

    /// The hub answers 404: no such model, revision or file.
    #[error("{endpoint} has no model {id}: check the spelling, and the revision if one was given")]
    NotFound {
        /// The model.
        id: String,
        /// The hub that was asked.
        endpoint: String,
    },

    /// The hub answers with another status of failure, such as 429 (too many requests) or 503.
    #[error("{url} answers {status}: try again later, or set HF_ENDPOINT to a mirror")]
    Failed {
        /// The address that was requested.
        url: String,
        /// The status code.
        status: u16,
    },

    /// An answer that a hub would not give, such as a login page or one without digest and size.
    #[error("{url} does not answer as a hub does: {problem}; is HF_ENDPOINT right?")]
    BadAnswer {
        /// The address that was requested.
        url: String,
        /// The part of the answer that is wrong.
        problem: String,
    },

    /// A file whose name would put it outside the model's folder; nothing is downloaded.
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

    /// A model whose weights are in a pickle format.
    #[error("{id} has no safetensors, only {}: save it with `safe_serialization=True` first", files.join(", "))]
    OnlyPickle {
        /// The model.
        id: String,
        /// The weight files that it has.
        files: Vec<String>,
    },

    /// A model without weights at the top of its repository.
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

    /// A model that is not complete on the hub: the config or index names a file that is not there.
    #[error("{id} is not complete on the hub: it lacks {missing}")]
    Incomplete {
        /// The model.
        id: String,
        /// The first file that it lacks.
        missing: String,
    },

    /// A download that was interrupted. The bytes so far are kept, and the next one continues.
    #[error(
        "the download of {file} broke off: {reason}; what has arrived is kept, so run the command again"
    )]
    Interrupted {
        /// The file.
        file: String,
        /// The failure, in the words of the HTTP client.
        reason: String,
    },

    /// A download whose size or SHA-256 is not the announced one; it has been deleted.
    #[error("{file} arrived damaged: {problem}; it was deleted, so run the command again")]
    Damaged {
        /// The file.
        file: String,
        /// The difference.
        problem: String,
    },

    /// A file of the cache that cannot be read or written.
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
    /// Wraps an I/O error with the path that it is about, for `map_err`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }
}
