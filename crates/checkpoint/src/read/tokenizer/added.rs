//! Tokens that other files add to a tokenizer, as the fast tokenizers of transformers 4.57 do.
//!
//! All are added in the order of the ids that the files state, then the special tokens that are not
//! among them. The stated ids have no other meaning: a token of the vocabulary keeps its id, any
//! other gets the next free one. A token that is there already gets the flags of the later one.
//!
//! An id may so lie beyond the embedding, as that of a padding token often does. A text that has no
//! such token is not concerned; one that has is refused where it is to be run.

use std::collections::HashSet;

use compress_gguf::parts;
use tokenizers::{AddedToken, Tokenizer};

use super::{
    refused,
    settings::{Class, Settings},
};
use crate::Result;

/// Adds the tokens of the settings, and what a class puts around texts. `own` has the added tokens
/// of a `tokenizer.json`, which count more than those of older files.
pub fn add(
    mut tokenizer: Tokenizer,
    settings: &Settings,
    own: impl IntoIterator<Item = (u32, AddedToken)>,
) -> Result<Tokenizer> {
    let tokens = tokens(&tokenizer, settings, own)?;
    tokenizer
        .add_tokens(tokens)
        .map_err(refused(settings.path()))?;
    // Only this class looks at its settings for it; others leave it to tokenizer.json.
    if settings.class != Class::Llama {
        return Ok(tokenizer);
    }
    let around = [
        ("bos_token", settings.truth("add_bos_token", true, false)?),
        ("eos_token", settings.truth("add_eos_token", false, false)?),
    ];
    let mut ids = [None, None];
    for (place, (key, wanted)) in ids.iter_mut().zip(around) {
        if !wanted {
            continue;
        }
        let token = settings.special(key)?.map(|it| it.content);
        let id = token.as_ref().and_then(|it| tokenizer.token_to_id(it));
        let (Some(token), Some(id)) = (token, id) else {
            let problem = format!("`add_{key}` is true, but there is no `{key}`");
            return Err(refused(settings.path())(problem));
        };
        *place = Some((id, token));
    }
    let ids = ids
        .each_ref()
        .map(|it| it.as_ref().map(|(id, token)| (*id, token.as_str())));
    let processor = parts::around_text(ids).map_err(refused(settings.path()))?;
    tokenizer.with_post_processor(processor);
    Ok(tokenizer)
}

/// The tokens to add, in their order.
fn tokens(
    tokenizer: &Tokenizer,
    settings: &Settings,
    own: impl IntoIterator<Item = (u32, AddedToken)>,
) -> Result<Vec<AddedToken>> {
    let there = tokenizer.get_added_tokens_decoder();
    let mut by_id = settings.added.clone();
    if !settings.complete {
        by_id.extend(own);
    }
    let mut tokens: Vec<_> = by_id.into_values().collect();
    let known: HashSet<_> = there
        .into_values()
        .chain(tokens.iter().cloned())
        .map(|it| it.content)
        .collect();
    let mut special = HashSet::new();
    for (token, flagged) in settings.all_special()? {
        // The first of equal names counts.
        if !special.insert(token.content.clone()) {
            continue;
        }
        let has_it = if flagged {
            tokens.contains(&token)
        } else {
            known.contains(&token.content)
        };
        if !has_it {
            tokens.push(token);
        }
    }
    for token in &mut tokens {
        token.special |= special.contains(&token.content);
    }
    Ok(tokens)
}
