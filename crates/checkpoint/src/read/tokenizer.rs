//! The tokenizer of a Hugging Face directory, with the ids that transformers' `AutoTokenizer` gives.
//!
//! ```text
//! tokenizer.json               the tokenizer as the tokenizers library writes it; taken where it is there
//! tokenizer.model              else, for classes of Llama: a SentencePiece model
//! vocab.json, merges.txt       else, for classes of Qwen2: a byte-level vocabulary
//! added_tokens.json, ...       tokens and flags that come on top of any of these
//! ```
//!
//! What transformers would build from other files is refused, with the command that converts them.

mod added;
mod model_file;
mod protobuf;
mod sentence_piece;
mod settings;
mod token;
mod vocabulary;

use std::path::Path;

use tokenizers::Tokenizer;

use self::settings::{Class, Settings};
use crate::{Config, Error, Result, read::mistaken};

/// Reads the tokenizer of a directory. Fails with [`Error::Tokenizer`] where there is none, it is of
/// a kind that is not read, or the library refuses it.
pub fn open(root: &Path, config: &Config) -> Result<Tokenizer> {
    let settings = Settings::read(root, config)?;
    let [json, model, ids] =
        ["tokenizer.json", "tokenizer.model", "vocab.json"].map(|name| root.join(name));
    if json.is_file() {
        let whole = whole(&json)?;
        let own = whole.get_added_tokens_decoder();
        // With this setting transformers converts the model anew, tokenizer.json or not. A model that
        // is not converted here has its conversion in that file already.
        let anew = settings.class == Class::Llama && settings.is_set("add_prefix_space");
        let converted = (anew && model.is_file())
            .then(|| sentence_piece::open(&model, &settings).ok())
            .flatten();
        return added::add(converted.unwrap_or(whole), &settings, own);
    }
    let tokenizer = match settings.class {
        Class::Llama if model.is_file() => sentence_piece::open(&model, &settings)?,
        Class::Qwen2 if ids.is_file() => vocabulary::open(root)?,
        // There may be a tokenizer, but which one transformers would make of it is not known here.
        _ if model.is_file() => return Err(unread(&model, &settings.unread())),
        _ if ids.is_file() => return Err(unread(&ids, &settings.unread())),
        _ => {
            let problem = "there is none, nor a tokenizer.model, nor vocab.json with merges.txt; copy the tokenizer's files from where the model is from";
            return Err(refused(&json)(problem));
        }
    };
    added::add(tokenizer, &settings, [])
}

/// The tokenizer in a `tokenizer.json`.
fn whole(path: &Path) -> Result<Tokenizer> {
    let contents = std::fs::read(path).map_err(Error::io(path))?;
    mistaken::check_contents(path, &contents)?;
    let whole = Tokenizer::from_bytes(contents).and_then(|mut tokenizer| {
        // Settings of the training batches: a text for evaluation must be neither truncated nor
        // padded.
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        Ok(tokenizer)
    });
    whole.map_err(refused(path))
}

/// The error that a tokenizer cannot be used.
fn refused<E: ToString>(path: &Path) -> impl Fn(E) -> Error {
    let path = path.to_owned();
    move |problem| Error::Tokenizer {
        path: path.clone(),
        problem: problem.to_string(),
    }
}

/// The error that a file is of a kind that only transformers reads, with the command by which it
/// makes a `tokenizer.json` of it.
fn unread(path: &Path, what: &str) -> Error {
    let folder = path.parent().unwrap_or(path).display();
    let problem = format!(
        "{what}; to make a tokenizer.json of it: python -c 'from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(\"{folder}\").save_pretrained(\"{folder}\")' (after pip install transformers sentencepiece protobuf tiktoken)"
    );
    refused(path)(problem)
}
