//! The post-processor that adds BOS and EOS around a text.

use serde_json::{Map, Value, json};
use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::refused;
use super::vocabulary::Vocabulary;
use crate::{Error, Gguf, metadata::needed};

/// Adds BOS first and EOS last where the file asks for them; where it says nothing, BOS if
/// `by_default` and no EOS. Fails where the file asks for a token whose id it does not have.
pub(super) fn add(
    tokenizer: &mut Tokenizer,
    gguf: &Gguf,
    vocabulary: &Vocabulary,
    by_default: bool,
) -> Result<(), Error> {
    let wanted = [
        (
            "tokenizer.ggml.add_bos_token",
            "tokenizer.ggml.bos_token_id",
            by_default,
        ),
        (
            "tokenizer.ggml.add_eos_token",
            "tokenizer.ggml.eos_token_id",
            false,
        ),
    ];
    let mut around = [None; 2];
    for (place, (flag, id, by_default)) in around.iter_mut().zip(wanted) {
        let asked = gguf.truth(flag)?;
        if asked.unwrap_or(by_default) {
            *place = vocabulary.at(gguf, id)?;
        }
        // Every text would be tokenised otherwise than the file says.
        if asked == Some(true) {
            needed(id, *place)?;
        }
    }
    tokenizer.with_post_processor(around_text(around)?);
    Ok(())
}

/// The post-processor that puts one token before a text, and one behind it; none where there is
/// neither.
pub fn around_text(
    tokens: [Option<(u32, &str)>; 2],
) -> Result<Option<PostProcessorWrapper>, Error> {
    if tokens.iter().all(Option::is_none) {
        return Ok(None);
    }
    serde_json::from_value(template(tokens)).map_err(refused)
}

/// The post-processor as in `tokenizer.json`. The library's builder parses templates from strings,
/// in which some tokens have a meaning of their own; JSON takes every token as it is.
fn template([first, last]: [Option<(u32, &str)>; 2]) -> Value {
    let mut tokens = Map::new();
    for (id, token) in [first, last].into_iter().flatten() {
        tokens.insert(
            token.to_owned(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        );
    }
    let token = |token: (u32, &str)| json!({"SpecialToken": {"id": token.1, "type_id": 0}});
    let around = |text: &str| {
        let text = json!({"Sequence": {"id": text, "type_id": 0}});
        first
            .map(token)
            .into_iter()
            .chain([text])
            .chain(last.map(token))
            .collect::<Vec<_>>()
    };
    // A pair of texts has the tokens around each.
    let pair = [around("A"), around("B")].concat();
    json!({
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": pair,
        "special_tokens": tokens,
    })
}
