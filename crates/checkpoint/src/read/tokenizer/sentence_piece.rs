//! A `tokenizer.model` of `SentencePiece`, as transformers converts it for the classes of Llama.
//!
//! That conversion leaves out most of what such a file can ask for. Where the two would give other
//! tokens for plain text, the file is refused: the model was trained on one of them, and which one is
//! not known here.

use std::{collections::HashMap, fs, path::Path};

use compress_gguf::parts;
use tokenizers::{
    AddedToken, Tokenizer,
    models::{bpe::Vocab, unigram::Unigram},
    pre_tokenizers::metaspace::{Metaspace, PrependScheme},
};

use super::{
    model_file::{Algorithm, ModelFile, Piece},
    refused,
    settings::Settings,
    unread,
};
use crate::{Error, Result, read::mistaken};

/// Reads a `tokenizer.model`, without the tokens that other files add.
pub fn open(path: &Path, settings: &Settings) -> Result<Tokenizer> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    mistaken::check_contents(path, &bytes)?;
    if is_tiktoken(&bytes) {
        let what =
            "a vocabulary of tiktoken (as in the original files of Llama 3), which is not read";
        return Err(unread(path, what));
    }
    let model = ModelFile::parse(&bytes)
        .map_err(|problem| refused(path)(format!("not a SentencePiece model: {problem}")))?;
    // Not so in `special_tokens_map.json` alone: a missing setting means a prefix, null means none.
    let prefix = settings.truth("add_prefix_space", true, false)?;
    let legacy = settings.truth("legacy", true, true)?;
    if let Some(what) = difference(&model, prefix && legacy) {
        return Err(unread(path, &what));
    }
    build(path, &model, settings, prefix, legacy)
}

/// What transformers' conversion would leave out, in words; none where it gives the tokens that
/// `SentencePiece` gives.
fn difference(model: &ModelFile, prefix: bool) -> Option<String> {
    let left_out = if model.algorithm == Algorithm::Other {
        return Some("a SentencePiece model of words or characters, which is not read".into());
    } else if model.normalizes {
        format!("it normalizes texts (`{}`)", model.rule)
    } else if model.strips {
        "it removes extra spaces".into()
    } else if model.suffix || !model.escapes {
        "it has spaces elsewhere than before words".into()
    } else if prefix && !model.prefix {
        "it puts no space before a text, but tokenizer_config.json does".into()
    } else {
        return None;
    };
    Some(format!(
        "{left_out}, which transformers' conversion ignores, so that SentencePiece and transformers give other tokens; if you want those of transformers"
    ))
}

/// The tokenizer of a model that has passed [`difference`].
fn build(
    path: &Path,
    model: &ModelFile,
    settings: &Settings,
    prefix: bool,
    legacy: bool,
) -> Result<Tokenizer> {
    let tokens = tokens(path, model, settings)?;
    let mut scores: Vec<f64> = model.pieces.iter().map(|it| it.score.into()).collect();
    // Unknown, BOS and EOS, whatever scores they have.
    for score in scores.iter_mut().take(FIRST) {
        *score = 0.0;
    }
    let mut tokenizer = if model.algorithm == Algorithm::Bpe {
        let ids: Vocab = (0..)
            .zip(&tokens)
            .map(|(id, it)| ((*it).into(), id))
            .collect();
        Tokenizer::new(
            parts::model(ids, &tokens, &scores, Some(model.unknown)).map_err(refused(path))?,
        )
    } else {
        let scored = tokens.iter().map(|it| (*it).to_owned()).zip(scores);
        Tokenizer::new(Unigram::from(scored.collect(), Some(0), true).map_err(refused(path))?)
    };
    if legacy {
        // Each stretch of text between added tokens has a space before it.
        let normalizer = parts::normalizer(prefix).map_err(refused(path))?;
        tokenizer
            .with_normalizer(Some(normalizer))
            .map_err(refused(path))?;
    } else {
        // Only the first stretch has, and it keeps the space that it begins with.
        let scheme = if prefix {
            PrependScheme::First
        } else {
            PrependScheme::Never
        };
        tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    }
    tokenizer.with_decoder(Some(parts::decoder(prefix).map_err(refused(path))?));
    let marked = model.pieces.iter().filter_map(|it| {
        let control = it.kind == Piece::CONTROL;
        let token = AddedToken::from(it.text, control).normalized(false);
        (control || it.kind == Piece::USER_DEFINED).then_some(token)
    });
    tokenizer.add_tokens(marked).map_err(refused(path))?;
    Ok(tokenizer)
}

/// The number of tokens at the front that may have other names.
const FIRST: usize = 3;

/// The tokens in the order of their ids. The first three have the names that the settings give to
/// these ids.
fn tokens<'t>(path: &Path, model: &'t ModelFile, settings: &'t Settings) -> Result<Vec<&'t str>> {
    let mut tokens: Vec<_> = model.pieces.iter().map(|it| it.text).collect();
    for (id, token) in (0..).zip(&mut tokens).take(FIRST) {
        if let Some(named) = settings.added.get(&id) {
            *token = &named.content;
        }
    }
    // Ids are 32 bits wide.
    u32::try_from(tokens.len()).map_err(refused(path))?;
    let mut seen = HashMap::new();
    for (id, token) in tokens.iter().enumerate() {
        if let Some(earlier) = seen.insert(*token, id) {
            let problem = format!("`{token}` is token {earlier} and token {id}");
            return Err(refused(path)(problem));
        }
    }
    Ok(tokens)
}

/// Whether the file is lines of a token in base64 and its rank.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut words = line.trim_ascii_end().split(|&byte| byte == b' ');
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let token = words
        .next()
        .is_some_and(|it| !it.is_empty() && it.iter().all(base64));
    let rank = words
        .next()
        .is_some_and(|it| !it.is_empty() && it.iter().all(u8::is_ascii_digit));
    token && rank && words.next().is_none()
}
