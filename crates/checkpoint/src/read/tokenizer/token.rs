//! A token as the JSON files beside a tokenizer have it: its text, or an object with its flags.

use serde_json::Value;
use tokenizers::AddedToken;

/// The token of a text or an object. A text is a special token, found as it is; an object says so
/// itself, or else `special` does. Fails, in words, for anything else.
pub fn parse(value: &Value, special: bool) -> Result<AddedToken, String> {
    if let Some(text) = value.as_str() {
        return Ok(AddedToken::from(text, true));
    }
    let Some(content) = value.get("content").and_then(Value::as_str) else {
        return Err(format!(
            "{value} is no token: neither text nor an object with `content`"
        ));
    };
    let flag = |name: &str, default| match value.get(name) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!(
            "`{name}` of the token `{content}` is neither true nor false"
        )),
    };
    let token = AddedToken::from(content, flag("special", special)?);
    let normalized = token.normalized;
    Ok(token
        .single_word(flag("single_word", false)?)
        .lstrip(flag("lstrip", false)?)
        .rstrip(flag("rstrip", false)?)
        .normalized(flag("normalized", normalized)?))
}
